import Bytes
import Glibc
import LinuxIO

/// Goes through the records of one segment.
struct SegmentReader: ~Copyable {
    /// What is at a place.
    enum Step: Equatable {
        case record(RecordHeader)
        /// The limit.
        case end
        case damage
    }

    let path: String
    let header: SegmentHeader
    private let file: OwnedDescriptor
    /// Bytes of the segment from `chunkOffset`; what is beyond `chunkCount` is left from before.
    private var chunk: [UInt8] = []
    private var chunkOffset: UInt64 = 0, chunkCount = 0
    /// Where `step` looks; not below the segment's first offset.
    var offset: UInt64

    private static let usualChunk = 1 << 18

    /// Opens a segment; nil when its header cannot be read, or is not that of this segment of this log.
    init?(_ files: PartitionFiles, base: UInt64) throws(TelemetryError) {
        let path = files.segment(base)
        let file = try at(path) { () throws(SystemError) in try PlainFile.open(path, O_RDONLY) }
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try PlainFile.read(file, at: 0, count: SegmentHeader.size) } catch {
            guard error.number == EIO else { throw TelemetryError(error, path) }
            return nil
        }
        guard let header = try? SegmentHeader.parse(bytes.span.bytes), header.first.offset == base, header.log == files.log,
            header.partition == UInt32(files.number)
        else { return nil }
        self.path = path
        self.header = header
        offset = base
        self.file = file
    }

    /// The offset at which the file ends, rounded down to where a record may begin.
    func fileEnd() throws(TelemetryError) -> UInt64 {
        let size = try at(path) { () throws(SystemError) in try PlainFile.size(file) }
        return header.first.offset + UInt64(max(0, size - SegmentHeader.size) & ~7)
    }

    /// What is at `offset`, when nothing at or beyond `limit` counts.
    mutating func step(before limit: UInt64) throws(TelemetryError) -> Step {
        guard offset < limit else { return .end }
        var wanted = min(12, limit - offset)
        while true {
            guard try fill(wanted, before: limit) else { return .damage }
            let parsed: RecordHeader.Parsed
            do throws(RecordHeader.Fault) {
                parsed = try RecordHeader.parse(chunk.span.bytes.extracting(window), at: offset, seal: header.seal)
            } catch { return .damage }
            switch parsed {
            case .complete(let record): return .record(record)
            case .needMoreData(let total):
                guard UInt64(total) <= limit - offset else { return .damage }
                wanted = UInt64(total)
            }
        }
    }

    /// The record that the last `step` found; nil when its fields do not fit together.
    func decode(_ record: RecordHeader) -> TelemetryRecord? { TelemetryRecord(record, at: offset, in: chunk.span.bytes.extracting(window)) }

    /// Gives back the memory of what was read last.
    mutating func rest() {
        chunk = []
        chunkCount = 0
    }

    /// Moves on to the next place after `offset` that holds a record; false when there is none before `limit`.
    mutating func findNextRecord(before limit: UInt64) throws(TelemetryError) -> Bool {
        let start = offset
        offset += 8
        while offset < limit, limit - offset >= UInt64(RecordHeader.size), try fill(UInt64(RecordHeader.size), before: limit) {
            if isLikelyRecord, case .record = try step(before: limit) { return true }
            offset += 8
        }
        offset = start
        return false
    }

    /// Whether the 48 bytes at `offset` can begin a record here. Message bodies full of beginnings of long records, whose checksums
    /// would take long, are passed over by what their senders cannot know.
    private var isLikelyRecord: Bool {
        let bytes = chunk.span.bytes.extracting(window)
        guard bytes.bigEndian(at: 0, as: UInt32.self) == RecordHeader.magic else { return false }
        let before = offset - header.first.offset
        let sequence = bytes.bigEndian(at: 16, as: UInt64.self), milliseconds = bytes.bigEndian(at: 24, as: Int64.self)
        return UInt64(bytes.bigEndian(at: 12, as: UInt32.self)) <= before && sequence >= header.first.sequence
            && sequence - header.first.sequence <= before / UInt64(RecordHeader.size) && milliseconds >= header.milliseconds
    }

    /// The part of the chunk that is at `offset` and after it.
    private var window: Range<Int> {
        guard offset >= chunkOffset, offset - chunkOffset <= UInt64(chunkCount) else { return 0..<0 }
        return Int(offset - chunkOffset)..<chunkCount
    }

    /// Sees to it that the chunk holds `count` bytes at `offset`; false when the file ends before.
    private mutating func fill(_ count: UInt64, before limit: UInt64) throws(TelemetryError) -> Bool {
        if window.count >= count { return true }
        let size = Int(min(max(count, UInt64(Self.usualChunk)), limit - offset))
        if chunk.count < size { chunk = [UInt8](repeating: 0, count: size) }
        let place = SegmentHeader.size + Int(offset - header.first.offset)
        let raw = file.raw
        do throws(SystemError) {
            chunkCount = try chunk.withUnsafeMutableBufferPointer { (room) throws(SystemError) -> Int in
                try PlainFile.read(raw, at: place, into: UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: room[..<size])))
            }
        } catch {
            chunkCount = 0
            // A sector that cannot be read is damage too.
            guard error.number == EIO else { throw TelemetryError(error, path) }
        }
        chunkOffset = offset
        return UInt64(chunkCount) >= count
    }
}
