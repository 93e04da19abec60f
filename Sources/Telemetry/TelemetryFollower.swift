import LinuxIO

/// Reads a log in another process than the one that writes: all of it, or one device's messages. What `iotstream monitor` shows.
package final class TelemetryFollower: Sendable {
    /// What came next in one partition.
    package enum Step: Equatable, Sendable {
        case records(partition: Int, [TelemetryRecord])
        /// So many records of the partition were removed before they could be read, or were lost to damage.
        case missed(partition: Int, UInt64)
        /// A part cannot be read; the follower goes on after it.
        case damage(TelemetryDamage)
    }

    private let readers: [TelemetryReader]
    private let watch: ModificationWatch
    private let device: String?

    /// - Parameter device: only this device's messages, and those of its modules.
    /// - Parameter start: an offset or sequence number means that of each partition.
    package init(_ directory: LogDirectory, device: String? = nil, from start: TelemetryStart) throws(TelemetryError) {
        self.device = device
        watch = try ModificationWatch(directory)
        var readers: [TelemetryReader] = []
        for partition in device.map({ [directory.partition(of: $0)] }) ?? Array(0..<directory.partitions) {
            readers.append(try TelemetryReader(directory, partition: partition, from: start))
        }
        self.readers = readers
    }

    /// What there is in each partition now, up to so many records and about 1 MiB of each; empty when there is nothing new.
    ///
    /// Records of one partition are in their order, and those of several partitions one partition after the other. Blocks on the disk.
    package func next(records: Int = 256) throws(TelemetryError) -> [Step] {
        var steps: [Step] = []
        for reader in readers {
            do throws(TelemetryError) {
                var isDone = false
                while !isDone {
                    let batch = try reader.read(records: records)
                    if batch.missed > 0 { steps.append(.missed(partition: reader.partition, batch.missed)) }
                    let wanted = device.map { device in batch.records.filter { $0.envelope.deviceID == device } } ?? batch.records
                    if !wanted.isEmpty { steps.append(.records(partition: reader.partition, wanted)) }
                    isDone = !wanted.isEmpty || batch.isAtEnd
                }
            } catch {
                guard case .damaged(let damage) = error else { throw error }
                reader.skipDamage()
                steps.append(.damage(damage))
            }
        }
        return steps
    }

    /// Readable when the log has grown; then `wait` for no time, and read until `next` is empty.
    package var descriptor: CInt { watch.descriptor }

    /// Waits until the log has grown, at most so long.
    @discardableResult
    package func wait(milliseconds: Int) -> Bool { watch.wait(milliseconds: milliseconds) }
}
