import Bytes

/// The fixed part of a record; numbers are big-endian.
///
///      0  magic EE 54 4C 52               32  source            33  authentication
///      4  CRC-32C                         34  bytes of device identifier
///      8  length                          36  bytes of module identifier
///     12  bytes since the commit began    38  system properties
///     16  sequence number                 40  application properties
///     24  enqueued, ms since 1970         42  zero
///                                         44  bytes of body     48  fields
///
/// The checksum is of the segment's salt, the record's offset (8 bytes) and bytes 8 to `length`. After a record come zeros up to a
/// multiple of 8. The whole format is in iotstream-telemetry(5).
package struct RecordHeader: Equatable, Sendable {
    package static let size = 48
    package static let magic: UInt32 = 0xEE54_4C52
    /// The longest record, header included: a message of 256 KiB and what the hub adds have ample room.
    package static let longest = 1 << 20
    static let nullValue: UInt8 = 0, textValue: UInt8 = 1
    /// Where two of the numbers stand.
    static let lengthPlace = 8, bodyBytesPlace = 44

    /// Bytes of header and fields, without padding.
    package var length: Int
    /// Bytes between the beginning of the commit in which it was written and the record.
    package var commitDistance: Int
    package var sequence: UInt64
    package var milliseconds: Int64
    package var source: TelemetrySource
    var authentication: UInt8
    var deviceBytes: Int, moduleBytes: Int
    var systemCount: Int, applicationCount: Int
    var bodyBytes: Int

    /// Bytes until the next record.
    package var paddedLength: Int { Self.padded(length) }
    static func padded(_ length: Int) -> Int { (length + 7) & ~7 }

    /// Why bytes are no record.
    package enum Fault: Error, Equatable, Sendable {
        /// It does not begin like one.
        case noRecord
        /// A length that no record has.
        case badLength
        case badChecksum
    }

    /// Reads the header of the record at `offset`, when the whole record with its padding is there and its checksum is right.
    package static func parse(_ bytes: RawSpan, at offset: UInt64, seal: RecordSeal) throws(Fault) -> Parsed {
        guard bytes.byteCount >= 4 else {
            guard begins(bytes) else { throw .noRecord }
            return .needMoreData(total: 4)
        }
        guard bytes.bigEndian(at: 0, as: UInt32.self) == magic else { throw .noRecord }
        guard bytes.byteCount >= 12 else { return .needMoreData(total: 12) }
        let length = Int(bytes.bigEndian(at: 8, as: UInt32.self))
        guard length >= size, length <= longest else { throw .badLength }
        guard bytes.byteCount >= padded(length) else { return .needMoreData(total: padded(length)) }
        let record = bytes.extracting(0..<length)
        guard seal.checksum(of: record, at: offset) == bytes.bigEndian(at: 4, as: UInt32.self) else { throw .badChecksum }
        return .complete(try fields(of: record, length))
    }

    /// How far a parser got; what is complete takes `paddedLength` bytes.
    package enum Parsed: Equatable, Sendable {
        case needMoreData(total: Int)
        case complete(RecordHeader)
    }

    private static func begins(_ bytes: RawSpan) -> Bool {
        withUnsafeBytes(of: magic.bigEndian) { magic in
            for index in 0..<bytes.byteCount where bytes.byte(at: index) != magic[index] { return false }
            return true
        }
    }

    private static func fields(of record: RawSpan, _ length: Int) throws(Fault) -> RecordHeader {
        let sequence = record.bigEndian(at: 16, as: UInt64.self), milliseconds = record.bigEndian(at: 24, as: Int64.self)
        // Room to count on from a number that somebody else wrote.
        guard sequence <= 1 << 62, milliseconds >= 0, milliseconds <= 1 << 62 else { throw .badLength }
        return RecordHeader(
            length: length, commitDistance: Int(record.bigEndian(at: 12, as: UInt32.self)), sequence: sequence, milliseconds: milliseconds,
            source: TelemetrySource(rawValue: record.byte(at: 32)) ?? .telemetry, authentication: record.byte(at: 33),
            deviceBytes: Int(record.bigEndian(at: 34, as: UInt16.self)), moduleBytes: Int(record.bigEndian(at: 36, as: UInt16.self)),
            systemCount: Int(record.bigEndian(at: 38, as: UInt16.self)), applicationCount: Int(record.bigEndian(at: 40, as: UInt16.self)),
            bodyBytes: Int(record.bigEndian(at: 44, as: UInt32.self)))
    }
}

/// What binds the checksums of a segment's records to the segment and to their place in it: a device that sends a copy of a record
/// as its message does not make a record.
package struct RecordSeal: Equatable, Sendable {
    private var salted = Checksum()

    package init(salt: UInt64) { salted.add(salt) }

    /// Of one record, without its padding.
    package func checksum(of record: RawSpan, at offset: UInt64) -> UInt32 {
        var sum = salted
        sum.add(offset)
        sum.add(record.extracting(8..<record.byteCount))
        return sum.value
    }
}
