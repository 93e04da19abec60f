import Bytes
import Glibc
import LinuxIO

/// From where to where a partition can be read.
package struct PartitionBounds: Equatable, Sendable {
    /// Where its oldest record begins.
    package var begin = TelemetryPosition.zero
    /// The end of what is durable; the next record will begin here.
    package var end = TelemetryPosition.zero
    /// Where the newest record begins, be it still there or not; nil when there never was one.
    package var lastOffset: UInt64?
    /// The newest record's enqueued time, milliseconds since 1970; 0 when there never was one.
    package var lastMilliseconds: Int64 = 0
    /// Changes whenever a segment is begun: a reader at the end of one then looks for the next.
    package var generation: UInt64 = 0

    package init() {}

    package var isEmpty: Bool { begin.sequence == end.sequence }
}

/// The file `mark` of a partition: one block that tells readers in other processes the bounds of what is durable; big-endian.
///
///      0  magic "iotsmark"     12  partition                32  begin: offset, sequence     80  generation of segments
///      8  version 1            16  the log's identifier     48  end: offset, sequence       88  zero
///     10  size 96                                           64  newest record: offset, ms   92  CRC-32C of what is before it
///
/// The writer overwrites it in place after each commit, without sync: an old mark is a true one, only late.
package struct DurableMark: Equatable, Sendable {
    package static let size = 96
    private static let magic = Array("iotsmark".utf8)
    private static let noOffset = UInt64.max

    package var partition: UInt32
    package var log: LogIdentifier
    package var bounds: PartitionBounds

    /// The block as it is in the file.
    package var bytes: [UInt8] {
        var queue = ByteQueue(Self.magic)
        queue.append(bigEndian: SegmentHeader.version)
        queue.append(bigEndian: UInt16(Self.size))
        queue.append(bigEndian: partition)
        for number in [
            log.high, log.low, bounds.begin.offset, bounds.begin.sequence, bounds.end.offset, bounds.end.sequence,
            bounds.lastOffset ?? Self.noOffset, UInt64(bounds.lastMilliseconds), bounds.generation,
        ] { queue.append(bigEndian: number) }
        queue.append(bigEndian: UInt32(0))
        queue.append(bigEndian: queue.withBytes { Checksum.of($0) })
        return queue.toArray()
    }

    /// Nil for anything but a whole mark of this version, with bounds that make sense.
    package init?(parsing bytes: RawSpan) {
        guard bytes.byteCount >= Self.size, Checksum.of(bytes.extracting(0..<92)) == bytes.bigEndian(at: 92, as: UInt32.self) else {
            return nil
        }
        for index in 0..<Self.magic.count where bytes.byte(at: index) != Self.magic[index] { return nil }
        guard bytes.bigEndian(at: 8, as: UInt16.self) == SegmentHeader.version else { return nil }
        partition = bytes.bigEndian(at: 12, as: UInt32.self)
        let numbers = (0..<9).map { bytes.bigEndian(at: 16 + 8 * $0, as: UInt64.self) }
        log = LogIdentifier(high: numbers[0], low: numbers[1])
        bounds = PartitionBounds()
        bounds.begin = TelemetryPosition(offset: numbers[2], sequence: numbers[3])
        bounds.end = TelemetryPosition(offset: numbers[4], sequence: numbers[5])
        bounds.lastOffset = numbers[6] == Self.noOffset ? nil : numbers[6]
        bounds.generation = numbers[8]
        guard bounds.begin <= bounds.end, bounds.begin.sequence <= bounds.end.sequence, bounds.end.offset <= 1 << 62,
            bounds.end.sequence <= 1 << 62, numbers[7] <= 1 << 62, bounds.end.offset % 8 == 0
        else { return nil }
        bounds.lastMilliseconds = Int64(numbers[7])
    }

    init(partition: Int, log: LogIdentifier, bounds: PartitionBounds) {
        self.partition = UInt32(partition)
        self.log = log
        self.bounds = bounds
    }

    /// The mark of a partition; nil when there is none or none that is whole. Tries again when a writer was just at it.
    static func read(_ files: PartitionFiles) -> DurableMark? {
        for _ in 0..<100 {
            guard let bytes = try? Files.read(files.mark, limit: 4096) else { return nil }
            if let mark = DurableMark(parsing: bytes.span.bytes) {
                return mark.log == files.log && mark.partition == UInt32(files.number) ? mark : nil
            }
            sched_yield()
        }
        return nil
    }
}
