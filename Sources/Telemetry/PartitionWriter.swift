import Bytes
import Glibc
import LinuxIO
import Synchronization

/// A thread that writes what others submit to one partition: what has gathered while the disk was busy is one commit.
final class PartitionWriter: Sendable {
    typealias Completion = @Sendable (Result<TelemetryPosition, TelemetryError>) -> Void

    private struct Waiter {
        let place: Int
        /// Where its last record is, and how many it has.
        let lastPlace: Int
        let count: Int
        let completion: Completion
    }

    /// What waits for the next commit: records one after the other, without places, times and checksums.
    private struct Pending: ~Copyable {
        var bytes = ByteQueue()
        var waiters: [Waiter] = []
        var wantsRoom: [@Sendable () -> Void] = []
        /// A segment whose newest record is older than this is to be ended; milliseconds since 1970.
        var endsSegmentsBefore: Int64 = 0
        var isClosed = false

        var isEmpty: Bool { waiters.isEmpty && wantsRoom.isEmpty && endsSegmentsBefore == 0 }
    }

    let catalogue: PartitionCatalogue
    private let options: TelemetryLog.Options
    private let pending = Mutex(Pending())
    private let wake = Semaphore()
    private let thread = Mutex<Thread?>(nil)
    private let commits = Atomic<Int>(0)
    private let segmentMilliseconds = Atomic<Int64>(.max)

    init(_ catalogue: PartitionCatalogue, goesOn: Bool, _ options: TelemetryLog.Options) throws(TelemetryError) {
        self.catalogue = catalogue
        self.options = options
        let started = try at(catalogue.files.directory) { () throws(SystemError) in
            try Thread.start { [self] in run(Appender(catalogue, goesOn: goesOn, options)) }
        }
        thread.withLock { $0 = started }
    }

    /// Commits so far.
    var commitCount: Int { commits.load(ordering: .relaxed) }

    func submit(_ envelope: TelemetryEnvelope, body: UnsafeRawBufferPointer, _ completion: @escaping Completion) -> TelemetrySubmission {
        guard let length = envelope.recordLength(bodyBytes: body.count) else { return .refused(.tooLarge) }
        let (verdict, isFirst) = pending.withLock { pending -> (TelemetrySubmission, Bool) in
            if pending.isClosed { return (.refused(.closed), false) }
            let isFirst = pending.waiters.isEmpty
            if !isFirst, pending.bytes.count + length > options.pendingBytes { return (.full, false) }
            let place = pending.bytes.count
            pending.waiters.append(Waiter(place: place, lastPlace: place, count: 1, completion: completion))
            envelope.encode(into: &pending.bytes, length: length, body: body.bytes)
            return (.accepted, isFirst)
        }
        if isFirst { wake.signal() }
        return verdict
    }

    func submit(_ batch: borrowing TelemetryBundle, _ completion: @escaping Completion) -> TelemetrySubmission {
        let (count, length, last) = (batch.count, batch.bytes.count, batch.lastPlace)
        guard count > 0 else {
            completion(.success(catalogue.bounds.end))
            return .accepted
        }
        let (verdict, isFirst) = batch.bytes.withBytes { bytes in
            pending.withLock { pending -> (TelemetrySubmission, Bool) in
                if pending.isClosed { return (.refused(.closed), false) }
                let isFirst = pending.waiters.isEmpty
                if !isFirst, pending.bytes.count + length > options.pendingBytes { return (.full, false) }
                let place = pending.bytes.count
                pending.waiters.append(Waiter(place: place, lastPlace: place + last, count: count, completion: completion))
                pending.bytes.append(bytes)
                return (.accepted, isFirst)
            }
        }
        if isFirst { wake.signal() }
        return verdict
    }

    /// Calls when what waits now has gone to the disk's queue, on the writer's thread; at once when nothing waits.
    func whenRoom(_ call: @escaping @Sendable () -> Void) {
        let waits = pending.withLock { pending in
            guard !pending.isClosed, !pending.waiters.isEmpty else { return false }
            pending.wantsRoom.append(call)
            return true
        }
        if !waits { call() }
    }

    /// Ends segments that were begun so long ago, at the next commit.
    func setSegmentMilliseconds(_ milliseconds: Int64) { segmentMilliseconds.store(milliseconds, ordering: .relaxed) }

    func endSegment(olderThan milliseconds: Int64) {
        pending.withLock { $0.endsSegmentsBefore = max($0.endsSegmentsBefore, milliseconds) }
        wake.signal()
    }

    /// Takes no more records, writes those that wait, and ends the thread. Not to be called from a completion.
    func close() {
        pending.withLock { $0.isClosed = true }
        wake.signal()
        thread.withLock { $0.take() }?.join()
    }

    private func run(_ appender: consuming Appender) {
        while true {
            wake.wait()
            var room: [@Sendable () -> Void] = []
            let (waiters, cutoff, isClosed) = pending.withLock { pending -> ([Waiter], Int64, Bool) in
                swap(&pending.bytes, &appender.batch)
                swap(&pending.wantsRoom, &room)
                return (exchange(&pending.waiters, with: []), exchange(&pending.endsSegmentsBefore, with: 0), pending.isClosed)
            }
            for call in room { call() }
            if !waiters.isEmpty { commit(waiters, &appender) }
            if cutoff > 0 { appender.endSegment(olderThan: cutoff) }
            if isClosed, pending.withLock({ $0.isEmpty }) { break }
        }
        appender.finish()
        catalogue.settle()
    }

    private func commit(_ waiters: [Waiter], _ appender: inout Appender) {
        let oldest = segmentMilliseconds.load(ordering: .relaxed)
        let outcome = appender.commit(last: waiters.last?.lastPlace ?? 0, segmentMilliseconds: oldest)
        commits.wrappingAdd(1, ordering: .relaxed)
        switch outcome {
        case .failure(let error): for waiter in waiters { waiter.completion(.failure(error)) }
        case .success(let start):
            var sequence = start.sequence
            for waiter in waiters {
                waiter.completion(.success(TelemetryPosition(offset: start.offset + UInt64(waiter.place), sequence: sequence)))
                sequence += UInt64(waiter.count)
            }
        }
    }
}

/// Puts batches into the active segment, and begins a new one in time.
private struct Appender: ~Copyable {
    /// Records as submitted.
    var batch = ByteQueue()
    private let catalogue: PartitionCatalogue
    private let options: TelemetryLog.Options
    private var active: ActiveSegment?
    private var end: TelemetryPosition
    private var lastMilliseconds: Int64
    /// When the active segment was begun, or a time before.
    private var begunMilliseconds: Int64 = 0

    /// Bytes of memory that a batch may keep when it is done.
    private static let keptBytes = 1 << 18

    init(_ catalogue: PartitionCatalogue, goesOn: Bool, _ options: TelemetryLog.Options) {
        self.catalogue = catalogue
        self.options = options
        let bounds = catalogue.bounds
        end = bounds.end
        lastMilliseconds = bounds.lastMilliseconds
        if goesOn, let newest = catalogue.segments.last {
            active = try? ActiveSegment(goingOn: catalogue.files, base: newest.base, end: end.offset, disk: options.disk)
            begunMilliseconds = active?.header.milliseconds ?? 0
        }
    }

    /// Writes the batch and makes it durable; where its first record is, or what went wrong. The batch is empty afterwards.
    ///
    /// - Parameter last: the place of the last record in it.
    /// - Parameter segmentMilliseconds: a segment that was begun so long ago is ended before.
    mutating func commit(last: Int, segmentMilliseconds: Int64) -> Result<TelemetryPosition, TelemetryError> {
        defer {
            batch.removeAll()
            if batch.capacity > Self.keptBytes { batch.releaseIfEmpty() }
        }
        do throws(TelemetryError) { return .success(try write(last: last, segmentMilliseconds)) } catch {
            if active?.isSpoilt == true { active = nil }
            return .failure(error)
        }
    }

    private mutating func write(last: Int, _ segmentMilliseconds: Int64) throws(TelemetryError) -> TelemetryPosition {
        let start = end
        let milliseconds = max(lastMilliseconds, options.now())
        try prepare(milliseconds, segmentMilliseconds)
        guard let seal = active?.header.seal else { throw .closed }
        let stamp = RecordStamp(commit: start, milliseconds: milliseconds, seal: seal)
        let next = batch.withMutableBytes { stamp.complete($0) }
        let first = SegmentIndex.Entry(position: start, milliseconds: milliseconds)
        try Self.append(batch, first, to: &active)
        end = next
        lastMilliseconds = milliseconds
        let newest = TelemetryPosition(offset: start.offset + UInt64(last), sequence: next.sequence - 1)
        catalogue.advance(to: next, last: SegmentIndex.Entry(position: newest, milliseconds: milliseconds))
        return start
    }

    private static func append(
        _ batch: borrowing ByteQueue, _ first: SegmentIndex.Entry, to segment: inout ActiveSegment?
    ) throws(TelemetryError) {
        try batch.withBytes { (bytes) throws(TelemetryError) in try segment?.append(bytes, first: first) }
    }

    /// Sees to it that there is a segment to write to, neither too large nor too old.
    private mutating func prepare(_ milliseconds: Int64, _ segmentMilliseconds: Int64) throws(TelemetryError) {
        if let bytes = active?.recordBytes {
            let isTooLarge = bytes >= options.segmentBytes, isTooOld = milliseconds - begunMilliseconds >= segmentMilliseconds
            guard bytes > 0, isTooLarge || isTooOld else { return }
        }
        try beginSegment(milliseconds)
    }

    private mutating func beginSegment(_ milliseconds: Int64) throws(TelemetryError) {
        let files = catalogue.files
        // The time of the newest record before it is what retention goes by.
        let header = SegmentHeader(
            partition: UInt32(files.number), first: end, milliseconds: lastMilliseconds > 0 ? lastMilliseconds : milliseconds,
            log: files.log)
        // Whatever becomes of it, the one before is not written to again: the new one's file may be there although it failed.
        finish()
        active = nil
        active = try ActiveSegment(creating: files, header, disk: options.disk)
        begunMilliseconds = milliseconds
        catalogue.begin(header)
    }

    /// Ends the active segment when its newest record is older than that, so that retention can remove it.
    mutating func endSegment(olderThan cutoff: Int64) {
        guard let bytes = active?.recordBytes, bytes > 0, lastMilliseconds < cutoff else { return }
        try? beginSegment(max(lastMilliseconds, options.now()))
    }

    mutating func finish() {
        guard var segment = active.take() else { return }
        segment.finish()
        active = consume segment
    }
}
