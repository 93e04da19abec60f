import LinuxIO
import Synchronization

/// A thread that removes segments that are too old or too many, and makes lost indexes anew.
final class RetentionKeeper: Sendable {
    private let writers: [PartitionWriter]
    private let options: TelemetryLog.Options
    private let retention: Mutex<TelemetryRetention>
    /// One at a time counts and removes.
    private let enforcing = Mutex(())
    private let wake = Semaphore()
    private let isClosed = Atomic<Bool>(false)
    private let thread = Mutex<Thread?>(nil)

    init(_ writers: [PartitionWriter], _ options: TelemetryLog.Options, _ directory: LogDirectory) throws(TelemetryError) {
        self.writers = writers
        self.options = options
        retention = Mutex(options.retention)
        setSegmentAge(options.retention)
        let started = try at(directory.path) { () throws(SystemError) in try Thread.start { [self] in run() } }
        thread.withLock { $0 = started }
    }

    func set(_ retention: TelemetryRetention) {
        self.retention.withLock { $0 = retention }
        setSegmentAge(retention)
        wake.signal()
    }

    private func setSegmentAge(_ retention: TelemetryRetention) {
        let age = options.segmentMilliseconds ?? retention.milliseconds.map { $0 / 8 } ?? .max
        for writer in writers { writer.setSegmentMilliseconds(max(1, age)) }
    }

    func close() {
        isClosed.store(true, ordering: .relaxed)
        wake.signal()
        thread.withLock { $0.take() }?.join()
    }

    private func run() {
        for writer in writers { mendIndexes(writer.catalogue) }
        while !isClosed.load(ordering: .relaxed) {
            enforce()
            _ = wake.wait(milliseconds: options.retentionCheckMilliseconds)
        }
    }

    /// Removes what is too old, then the oldest of all until no more is too much.
    func enforce() {
        enforcing.withLock { _ in enforce(retention.withLock { $0 }) }
    }

    private func enforce(_ retention: TelemetryRetention) {
        if let milliseconds = retention.milliseconds {
            let cutoff = options.now() - milliseconds
            for writer in writers { removeOld(writer, before: cutoff) }
        }
        guard let limit = retention.bytes else { return }
        while writers.reduce(0, { $0 + $1.catalogue.bytes }) > limit {
            let oldest = writers.lazy.compactMap { writer in Self.oldest(writer).map { (writer, $0) } }
                .min { $0.1.endedMilliseconds < $1.1.endedMilliseconds }
            guard let (writer, segment) = oldest, writer.catalogue.remove(oldest: segment.base) else { return }
        }
    }

    private func removeOld(_ writer: PartitionWriter, before cutoff: Int64) {
        while let segment = Self.oldest(writer), segment.endedMilliseconds < cutoff {
            guard writer.catalogue.remove(oldest: segment.base) else { return }
        }
        let bounds = writer.catalogue.bounds
        if !bounds.isEmpty, bounds.lastMilliseconds < cutoff { writer.endSegment(olderThan: cutoff) }
    }

    /// The oldest segment that is not written to, and a time that no record in it is newer than.
    private static func oldest(_ writer: PartitionWriter) -> (base: UInt64, endedMilliseconds: Int64)? {
        let segments = writer.catalogue.segments
        return segments.count > 1 ? (segments[0].base, segments[1].milliseconds) : nil
    }

    private func mendIndexes(_ catalogue: PartitionCatalogue) {
        let segments = catalogue.segments
        for (segment, next) in zip(segments, segments.dropFirst()) where !isClosed.load(ordering: .relaxed) {
            guard var reader = try? SegmentReader(catalogue.files, base: segment.base),
                !SegmentIndex(catalogue.files, reader.header).isWhole
            else { continue }
            _ = try? SegmentIndex(rebuilding: catalogue.files, &reader, end: next.base)
        }
    }
}
