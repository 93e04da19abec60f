import Bytes
import Glibc
import LinuxIO

/// The first 64 bytes of a segment; numbers are big-endian.
///
///      0  magic "iotslog" and a zero       32  enqueued: no record in it is older, ms since 1970
///      8  version 1    10  size 64         40  the log's identifier, 16 bytes
///     12  partition                        56  CRC-32C of what is before it
///     16  offset of its first record       60  zero
///     24  sequence number of that record
///
/// The salt of its records is the identifier's first eight bytes, exclusive-or its second eight, exclusive-or the offset at 16.
package struct SegmentHeader: Equatable, Sendable {
    package static let size = 64
    static let magic = Array("iotslog\0".utf8)
    static let version: UInt16 = 1

    package var partition: UInt32
    /// Where its first record begins.
    package var first: TelemetryPosition
    /// The enqueued time of its first record, or an earlier one.
    package var milliseconds: Int64
    package var log: LogIdentifier

    package init(partition: UInt32, first: TelemetryPosition, milliseconds: Int64, log: LogIdentifier) {
        self.partition = partition
        self.first = first
        self.milliseconds = milliseconds
        self.log = log
    }

    /// What the checksums of its records and of its index begin with.
    var salt: UInt64 { log.salt ^ first.offset }
    package var seal: RecordSeal { RecordSeal(salt: salt) }

    package enum Fault: Error, Equatable, Sendable {
        case cutShort, notASegment, badChecksum
        /// Written by a later release.
        case newer(version: UInt16)
    }

    package static func parse(_ bytes: RawSpan) throws(Fault) -> SegmentHeader {
        guard bytes.byteCount >= size else { throw .cutShort }
        for index in 0..<magic.count where bytes.byte(at: index) != magic[index] { throw .notASegment }
        let version = bytes.bigEndian(at: 8, as: UInt16.self)
        guard version == Self.version else { throw .newer(version: version) }
        guard Checksum.of(bytes.extracting(0..<56)) == bytes.bigEndian(at: 56, as: UInt32.self) else { throw .badChecksum }
        let offset = bytes.bigEndian(at: 16, as: UInt64.self), sequence = bytes.bigEndian(at: 24, as: UInt64.self)
        let milliseconds = bytes.bigEndian(at: 32, as: Int64.self)
        guard bytes.bigEndian(at: 10, as: UInt16.self) == UInt16(size), offset <= 1 << 62, offset % 8 == 0, sequence <= 1 << 62,
            milliseconds >= 0, milliseconds <= 1 << 62
        else { throw .notASegment }
        return SegmentHeader(
            partition: bytes.bigEndian(at: 12, as: UInt32.self), first: TelemetryPosition(offset: offset, sequence: sequence),
            milliseconds: milliseconds,
            log: LogIdentifier(high: bytes.bigEndian(at: 40, as: UInt64.self), low: bytes.bigEndian(at: 48, as: UInt64.self)))
    }

    package var bytes: [UInt8] {
        var queue = ByteQueue(Self.magic)
        queue.append(bigEndian: Self.version)
        queue.append(bigEndian: UInt16(Self.size))
        queue.append(bigEndian: partition)
        queue.append(bigEndian: first.offset)
        queue.append(bigEndian: first.sequence)
        queue.append(bigEndian: milliseconds)
        queue.append(bigEndian: log.high)
        queue.append(bigEndian: log.low)
        queue.append(bigEndian: queue.withBytes { Checksum.of($0) })
        queue.append(bigEndian: UInt32(0))
        return queue.toArray()
    }
}

/// 16 random bytes, made with the log: what belongs to another log is not taken for its own.
package struct LogIdentifier: Equatable, Sendable {
    package var high, low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    static func random() -> LogIdentifier {
        let bytes = [UInt8].random(count: 16)
        return LogIdentifier(
            high: bytes.span.bytes.bigEndian(at: 0, as: UInt64.self), low: bytes.span.bytes.bigEndian(at: 8, as: UInt64.self))
    }

    /// 32 hexadecimal digits.
    init?(text: some StringProtocol) {
        guard text.utf8.count == 32, text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
            let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.dropFirst(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }

    var text: String { Self.hex(high) + Self.hex(low) }
    private static func hex(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    var salt: UInt64 { high ^ low }
}
