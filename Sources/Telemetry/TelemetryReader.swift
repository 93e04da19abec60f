import Glibc
import LinuxIO
import Synchronization

/// Where to begin to read a partition.
package enum TelemetryStart: Equatable, Sendable {
    /// The oldest record there is.
    case earliest
    /// What comes from now on.
    case latest
    /// A place at which a reader, or a consumer group, has stood.
    case position(TelemetryPosition)
    /// The first record at that offset or beyond; only beyond when not inclusive.
    case offset(UInt64, inclusive: Bool)
    case sequence(UInt64, inclusive: Bool)
    /// Enqueued at that time or later, milliseconds since 1970.
    case time(Int64, inclusive: Bool)
}

/// Some records of a partition, one after the other.
package struct TelemetryBatch: Equatable, Sendable {
    package var records: [TelemetryRecord] = []
    /// Records between the place before and the first of these that are no more: retention, or damage that was skipped.
    package var missed: UInt64 = 0
    /// There was nothing more to read.
    package var isAtEnd = false

    package init(records: [TelemetryRecord] = [], missed: UInt64 = 0, isAtEnd: Bool = false) {
        self.records = records
        self.missed = missed
        self.isAtEnd = isAtEnd
    }
}

/// Reads a partition from a place on, in this process or in another than the one that writes. It sees only what is durable.
///
/// Every call may block on the disk. Any thread may call, one at a time.
package final class TelemetryReader: Sendable {
    /// Who knows the bounds.
    enum Source: Sendable {
        case catalogue(PartitionCatalogue)
        case mark
    }

    package let partition: Int
    private let source: Source
    private let files: PartitionFiles
    private let cursor: Mutex<Cursor>

    private struct Cursor: ~Copyable {
        var position = TelemetryPosition.zero
        var segment: SegmentReader?
        /// The offset at which the next segment begins; nil for the newest.
        var segmentEnd: UInt64?
        var generation: UInt64 = 0
        var damage: TelemetryDamage?
        var missed: UInt64 = 0
    }

    /// A reader of a log that another process may be writing to.
    package convenience init(_ directory: LogDirectory, partition: Int, from start: TelemetryStart) throws(TelemetryError) {
        try self.init(.mark, try directory.partition(partition), from: start)
    }

    init(_ source: Source, _ files: PartitionFiles, from start: TelemetryStart) throws(TelemetryError) {
        self.source = source
        self.files = files
        partition = files.number
        cursor = Mutex(Cursor())
        let bounds = try Self.bounds(source, files)
        let position = try Self.find(start, files, bounds)
        cursor.withLock { cursor in
            cursor.position = position
            cursor.generation = bounds.generation
        }
    }

    /// Where the next record is read.
    package var position: TelemetryPosition { cursor.withLock { $0.position } }

    /// From where to where the partition can be read now.
    package func bounds() throws(TelemetryError) -> PartitionBounds { try Self.bounds(source, files) }

    private static func bounds(_ source: Source, _ files: PartitionFiles) throws(TelemetryError) -> PartitionBounds {
        switch source {
        case .catalogue(let catalogue): return catalogue.bounds
        case .mark:
            if let mark = DurableMark.read(files) { return mark.bounds }
            guard Files.exists(files.mark) else { return PartitionBounds() }
            guard let log = try? LogDirectory("\(files.directory)/.."), log.identifier == files.log else {
                throw .replaced(path: files.directory)
            }
            throw .noMark(path: files.mark)
        }
    }

    /// The next records: at most so many, and no more once they have so many bytes. Empty and at the end when there is nothing new.
    ///
    /// Throws `damaged` at a place that cannot be read, again and again until `skipDamage`.
    package func read(records: Int = 256, bytes: Int = 1 << 20) throws(TelemetryError) -> TelemetryBatch {
        let result = cursor.withLock { cursor -> Result<TelemetryBatch, TelemetryError> in
            do throws(TelemetryError) { return .success(try read(&cursor, records, bytes)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Goes on after the damage that `read` has thrown.
    package func skipDamage() {
        cursor.withLock { cursor in
            guard let damage = cursor.damage.take() else { return }
            cursor.position.offset = max(cursor.position.offset, damage.resumesAt)
            cursor.segment = nil
        }
    }

    private func read(_ cursor: inout Cursor, _ records: Int, _ bytes: Int) throws(TelemetryError) -> TelemetryBatch {
        if let damage = cursor.damage { throw .damaged(damage) }
        let bounds = try bounds()
        if bounds.generation != cursor.generation {
            cursor.generation = bounds.generation
            if cursor.segmentEnd == nil { cursor.segment = nil }
        }
        if cursor.position.offset < bounds.begin.offset {
            cursor.position.offset = bounds.begin.offset
            cursor.segment = nil
        }
        var batch = TelemetryBatch()
        var size = 0
        while batch.records.count < records, size < bytes {
            guard cursor.position.offset < bounds.end.offset else {
                try end(&batch, &cursor, bounds)
                break
            }
            do throws(TelemetryError) {
                guard let record = try next(&cursor, bounds) else { continue }
                guard batch.records.isEmpty || cursor.missed == 0 else {
                    // What is missing before it is told with the batch that it begins.
                    cursor.position = record.position
                    break
                }
                batch.missed += exchange(&cursor.missed, with: 0)
                size += record.end.offset > record.position.offset ? Int(record.end.offset - record.position.offset) : 0
                batch.records.append(record)
            } catch {
                guard batch.records.isEmpty else { break }
                throw error
            }
        }
        return batch
    }

    /// There is no more to read. Behind damage at the very end the next number is known from the bounds alone.
    private func end(_ batch: inout TelemetryBatch, _ cursor: inout Cursor, _ bounds: PartitionBounds) throws(TelemetryError) {
        cursor.segment?.rest()
        Self.count(&cursor, upTo: bounds.end.sequence)
        if batch.records.isEmpty { batch.missed += exchange(&cursor.missed, with: 0) }
        // Retention may have moved the cursor beyond an end that is no longer the end.
        let newest = cursor.position.offset > bounds.end.offset ? try self.bounds().end.offset : bounds.end.offset
        batch.isAtEnd = cursor.missed == 0 && cursor.position.offset >= newest
    }

    private static func count(_ cursor: inout Cursor, upTo sequence: UInt64) {
        guard sequence > cursor.position.sequence else { return }
        cursor.missed += sequence - cursor.position.sequence
        cursor.position.sequence = sequence
    }

    /// Reads the record at the cursor and moves on; nil when the cursor only came to the next segment.
    private func next(_ cursor: inout Cursor, _ bounds: PartitionBounds) throws(TelemetryError) -> TelemetryRecord? {
        if let end = cursor.segmentEnd, cursor.segment != nil, cursor.position.offset >= end { cursor.segment = nil }
        if cursor.segment == nil { try open(&cursor, bounds) }
        let limit = min(bounds.end.offset, cursor.segmentEnd ?? bounds.end.offset)
        let place = cursor.position.offset
        guard let found = try cursor.segment?.look(at: place, before: limit) else { return nil }
        switch found {
        case .record(let record):
            Self.count(&cursor, upTo: record.position.sequence)
            cursor.position = record.end
            return record
        case .damage(let path, let resumesAt): throw damage(&cursor, path, resumesAt)
        }
    }

    private func damage(_ cursor: inout Cursor, _ path: String, _ resumesAt: UInt64) -> TelemetryError {
        let damage = TelemetryDamage(path: path, partition: partition, offset: cursor.position.offset, resumesAt: resumesAt)
        cursor.damage = damage
        return .damaged(damage)
    }

    /// Opens the segment in which the cursor is.
    private func open(_ cursor: inout Cursor, _ bounds: PartitionBounds) throws(TelemetryError) {
        let bases = try files.bases()
        let next = bases.first { $0 > cursor.position.offset }
        cursor.segmentEnd = next
        guard let base = bases.last(where: { $0 <= cursor.position.offset }) else {
            // Retention has just removed it, or somebody else has.
            let now = try self.bounds()
            guard now.begin.offset > cursor.position.offset else {
                throw damage(&cursor, files.segment(cursor.position.offset), min(next ?? now.end.offset, now.end.offset))
            }
            cursor.position.offset = now.begin.offset
            return
        }
        do throws(TelemetryError) {
            guard let segment = try SegmentReader(files, base: base) else {
                throw damage(&cursor, files.segment(base), min(next ?? bounds.end.offset, bounds.end.offset))
            }
            cursor.segment = consume segment
        } catch {
            // It was there in the listing, and is no more: the next try finds what retention has left.
            guard error.isMissingFile else { throw error }
        }
    }
}

extension SegmentReader {
    fileprivate enum Found {
        case record(TelemetryRecord)
        case damage(path: String, resumesAt: UInt64)
    }

    /// The record at a place, or where the next one is when there is none.
    fileprivate mutating func look(at place: UInt64, before limit: UInt64) throws(TelemetryError) -> Found {
        offset = place
        if case .record(let header) = try step(before: limit), let record = decode(header) { return .record(record) }
        return .damage(path: path, resumesAt: try findNextRecord(before: limit) ? offset : limit)
    }
}

extension TelemetryError {
    /// A file that was just listed is no more: retention has removed it.
    var isMissingFile: Bool {
        guard case .failed(_, let error) = self else { return false }
        return error == SystemError("open", ENOENT)
    }
}
