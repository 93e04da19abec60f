import Bytes
import Glibc
import LinuxIO
import Synchronization

/// What became of a record that was submitted.
package enum TelemetrySubmission: Equatable, Sendable {
    /// The completion will be called.
    case accepted
    /// Too much waits for the disk; try again after `whenRoom`. The completion is not called.
    case full
    /// It cannot be taken, now or later. The completion is not called.
    case refused(TelemetryError)
}

/// How long records stay. Whole segments go, the oldest first, never the one written to.
package struct TelemetryRetention: Equatable, Sendable {
    /// Records older than this go; nil keeps them for ever.
    package var milliseconds: Int64?
    /// Bytes of all partitions' segments; nil sets no bound.
    package var bytes: UInt64?

    package init(milliseconds: Int64? = 86_400_000, bytes: UInt64? = nil) {
        self.milliseconds = milliseconds
        self.bytes = bytes
    }
}

/// A partitioned, append-only log of messages, opened for writing: one process may, others read it meanwhile.
///
/// A device's messages are all in one partition, in the order of submission. A record is acknowledged when it is durable, and nobody
/// reads one that is not. The files are described in iotstream-telemetry(5).
package final class TelemetryLog: Sendable {
    package struct Options: Sendable {
        /// Their number in a new log; an older log must have as many. Nil takes a log as it is, and 4 for a new one.
        package var partitions: Int?
        /// Bytes of records from which a segment is ended.
        package var segmentBytes: UInt64 = 64 << 20
        /// Milliseconds after which a segment is ended; nil for an eighth of the retention, so that little is kept for longer.
        package var segmentMilliseconds: Int64?
        /// Bytes of records that may wait in memory for each partition's disk; twice as much can be in use.
        package var pendingBytes = 2 << 20
        package var retention = TelemetryRetention()
        /// Between two looks at what is too old.
        package var retentionCheckMilliseconds = 30_000
        /// Milliseconds since 1970-01-01 UTC.
        package var now: @Sendable () -> Int64 = { Clock.unixMicroseconds / 1000 }
        package var disk = Disk()

        package init() {}
    }

    package let directory: LogDirectory
    /// What opening each partition found.
    package let findings: [TelemetryFindings]
    private let options: Options
    /// Held until the log is closed.
    private let lock: Mutex<FileLock?>
    private let writers: [PartitionWriter]
    private let keeper: RetentionKeeper

    /// Opens the log in a directory, and makes it when there is none.
    package init(at path: String, _ options: Options = Options()) throws(TelemetryError) {
        try at(path) { () throws(SystemError) in try Files.makeDirectory(path, mode: 0o750) }
        do throws(SystemError) { lock = Mutex(try FileLock("\(path)/lock")) } catch {
            if error.number == EWOULDBLOCK { throw .alreadyOpen(path: path) }
            throw TelemetryError(error, "\(path)/lock")
        }
        let directory: LogDirectory
        do throws(TelemetryError) { directory = try LogDirectory(path) } catch {
            guard case .missing = error else { throw error }
            directory = try LogDirectory.create(path, partitions: options.partitions ?? 4)
            try at(path) { () throws(SystemError) in try Files.syncDirectory(of: path) }
        }
        if let wanted = options.partitions, wanted != directory.partitions {
            throw .partitionCount(path: path, stored: directory.partitions, wanted: wanted)
        }
        var recovered: [(catalogue: PartitionCatalogue, goesOn: Bool, findings: TelemetryFindings)] = []
        for number in 0..<directory.partitions { recovered.append(try Self.recover(directory, number, options)) }
        var writers: [PartitionWriter] = []
        do throws(TelemetryError) {
            for partition in recovered { writers.append(try PartitionWriter(partition.catalogue, goesOn: partition.goesOn, options)) }
            keeper = try RetentionKeeper(writers, options, directory)
        } catch {
            for writer in writers { writer.close() }
            throw error
        }
        self.directory = directory
        self.options = options
        self.writers = writers
        findings = recovered.map(\.findings)
    }

    private static func recover(
        _ directory: LogDirectory, _ number: Int, _ options: Options
    ) throws(TelemetryError) -> (catalogue: PartitionCatalogue, goesOn: Bool, findings: TelemetryFindings) {
        let files = try directory.partition(number)
        if !Files.exists(files.directory) {
            try at(files.directory) { () throws(SystemError) in
                try Files.makeDirectory(files.directory, mode: 0o750)
                try Files.syncDirectory(of: files.directory)
            }
        }
        let recovery = try PartitionRecovery(files, options.disk)
        return (try PartitionCatalogue(recovery, files), recovery.canGoOn, recovery.findings)
    }

    /// Queues a message, from any thread, and returns at once.
    ///
    /// - Parameter completion: is called on the partition's thread, in the order of submission: with the record's position once it is
    ///   durable, or with what went wrong, and then the record is not in the log.
    package func submit(
        _ envelope: TelemetryEnvelope, body: RawSpan,
        completion: @escaping @Sendable (Result<TelemetryPosition, TelemetryError>) -> Void
    ) -> TelemetrySubmission {
        let writer = writers[directory.partition(of: envelope.deviceID)]
        return body.withUnsafeBytes { writer.submit(envelope, body: $0, completion) }
    }

    /// Queues messages that belong together; `completion` gets the position of the first.
    package func submit(
        _ bundle: borrowing TelemetryBundle, completion: @escaping @Sendable (Result<TelemetryPosition, TelemetryError>) -> Void
    ) -> TelemetrySubmission {
        writers[directory.partition(of: bundle.deviceID)].submit(bundle, completion)
    }

    /// Calls once, on a partition's thread or at once, when a device's messages are worth another try after `full`.
    package func whenRoom(for deviceID: String, _ call: @escaping @Sendable () -> Void) {
        writers[directory.partition(of: deviceID)].whenRoom(call)
    }

    /// From where to where a partition can be read now.
    package func bounds(of partition: Int) throws(TelemetryError) -> PartitionBounds { try catalogue(partition).bounds }

    /// A reader of a partition. Blocks on the disk, like all that it does.
    package func reader(of partition: Int, from start: TelemetryStart) throws(TelemetryError) -> TelemetryReader {
        try TelemetryReader(.catalogue(try catalogue(partition)), try directory.partition(partition), from: start)
    }

    /// Calls on the partition's thread each time its durable end has moved, until the subscription is cancelled. Be short there: ring
    /// something, and read elsewhere.
    package func subscribe(to partition: Int, _ call: @escaping @Sendable () -> Void) throws(TelemetryError) -> TelemetrySubscription {
        let catalogue = try catalogue(partition)
        return TelemetrySubscription(catalogue, number: catalogue.subscribe(call))
    }

    package var groups: ConsumerGroups { ConsumerGroups(directory) }

    /// Changes how long records stay.
    package func setRetention(_ retention: TelemetryRetention) { keeper.set(retention) }

    /// Removes what is too old or too much, on the caller's thread.
    package func enforceRetention() { keeper.enforce() }

    /// Commits of all partitions since the log was opened.
    package var commits: Int { writers.reduce(0) { $0 + $1.commitCount } }
    /// Bytes of all segments.
    package var bytes: UInt64 { writers.reduce(0) { $0 + $1.catalogue.bytes } }

    /// Takes no more records, writes those that wait, and ends the threads. Not to be called from a completion.
    package func close() {
        keeper.close()
        for writer in writers { writer.close() }
        lock.withLock { $0 = nil }
    }

    private func catalogue(_ partition: Int) throws(TelemetryError) -> PartitionCatalogue {
        guard writers.indices ~= partition else { throw .noSuchPartition(partition) }
        return writers[partition].catalogue
    }
}

/// Ends with `cancel`; a call that is under way may still come.
package final class TelemetrySubscription: Sendable {
    private let catalogue: PartitionCatalogue
    private let number: UInt64

    init(_ catalogue: PartitionCatalogue, number: UInt64) {
        self.catalogue = catalogue
        self.number = number
    }

    package func cancel() { catalogue.unsubscribe(number) }
}
