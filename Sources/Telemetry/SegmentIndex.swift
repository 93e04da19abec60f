import Bytes
import Glibc
import LinuxIO

/// Some records of a segment, 64 KiB or more apart, to begin a search from.
///
/// A file of entries of 32 bytes: offset, sequence number, enqueued ms (8 bytes each, big-endian), zero (4), CRC-32C (4) of the
/// segment's salt and the 28 bytes before. It is written without sync and believed only where the segment bears it out.
struct SegmentIndex {
    struct Entry: Equatable {
        var position: TelemetryPosition
        var milliseconds: Int64
    }

    static let entrySize = 32
    /// Bytes of records between two entries, at least.
    static let distance: UInt64 = 1 << 16

    var entries: [Entry] = []
    /// Nothing in the file was amiss.
    var isWhole = true

    /// Reads a segment's index: the entries before the first that is wrong, none when there is no file.
    init(_ files: PartitionFiles, _ segment: SegmentHeader) {
        guard let bytes = try? Files.read(files.index(segment.first.offset), limit: 1 << 26) else {
            isWhole = false
            return
        }
        isWhole = bytes.count % Self.entrySize == 0
        var place = 0
        while place + Self.entrySize <= bytes.count {
            guard let entry = Self.parse(bytes.span.bytes.extracting(place..<place + Self.entrySize), segment),
                entry.position >= entries.last?.position ?? segment.first
            else {
                isWhole = false
                return
            }
            entries.append(entry)
            place += Self.entrySize
        }
    }

    /// Makes the index of a segment anew from its records before `end`, and stores it when the directory can be written to.
    init(rebuilding files: PartitionFiles, _ reader: inout SegmentReader, end: UInt64) throws(TelemetryError) {
        var bytes = ByteQueue()
        let before = reader.offset
        defer { reader.offset = before }
        reader.offset = reader.header.first.offset
        var due = reader.offset
        loop: while true {
            switch try reader.step(before: end) {
            case .end: break loop
            case .damage: guard try reader.findNextRecord(before: end) else { break loop }
            case .record(let record):
                if reader.offset >= due {
                    let entry = Entry(
                        position: TelemetryPosition(offset: reader.offset, sequence: record.sequence), milliseconds: record.milliseconds)
                    entries.append(entry)
                    Self.write(entry, reader.header, to: &bytes)
                    due = reader.offset + Self.distance
                }
                reader.offset += UInt64(record.paddedLength)
            }
        }
        try? Files.replace(files.index(reader.header.first.offset), with: bytes.toArray(), mode: 0o640, isDurable: false)
    }

    static func parse(_ bytes: RawSpan, _ segment: SegmentHeader) -> Entry? {
        guard bytes.byteCount == entrySize, checksum(bytes, segment) == bytes.bigEndian(at: 28, as: UInt32.self) else { return nil }
        let offset = bytes.bigEndian(at: 0, as: UInt64.self), sequence = bytes.bigEndian(at: 8, as: UInt64.self)
        let milliseconds = bytes.bigEndian(at: 16, as: Int64.self)
        guard offset >= segment.first.offset, offset <= 1 << 62, offset % 8 == 0, sequence <= 1 << 62 else { return nil }
        return Entry(position: TelemetryPosition(offset: offset, sequence: sequence), milliseconds: milliseconds)
    }

    static func write(_ entry: Entry, _ segment: SegmentHeader, to queue: inout ByteQueue) {
        var bytes = ByteQueue()
        bytes.append(bigEndian: entry.position.offset)
        bytes.append(bigEndian: entry.position.sequence)
        bytes.append(bigEndian: entry.milliseconds)
        bytes.append(bigEndian: UInt32(0))
        bytes.append(bigEndian: bytes.withBytes { checksum($0, segment) })
        bytes.withBytes { queue.append($0) }
    }

    private static func checksum(_ bytes: RawSpan, _ segment: SegmentHeader) -> UInt32 {
        var sum = Checksum()
        sum.add(segment.salt)
        sum.add(bytes.extracting(0..<28))
        return sum.value
    }

    /// Puts `reader` at the last entry for which `isBefore` holds and which is a record before `end` indeed; at the segment's
    /// beginning when there is none. False when an entry was wrong.
    func place(_ reader: inout SegmentReader, before end: UInt64, where isBefore: (Entry) -> Bool) throws(TelemetryError) -> Bool {
        reader.offset = reader.header.first.offset
        var low = 0, high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if isBefore(entries[middle]), entries[middle].position.offset < end { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return true }
        let entry = entries[low - 1]
        reader.offset = entry.position.offset
        if case .record(let record) = try reader.step(before: end), record.sequence == entry.position.sequence,
            record.milliseconds == entry.milliseconds
        {
            return true
        }
        reader.offset = reader.header.first.offset
        return false
    }
}
