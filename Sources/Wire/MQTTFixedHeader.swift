import Bytes

/// The types of control packets that pass between a hub and its devices, MQTT 3.1.1 section 2.2.1.
package enum MQTTPacketType: UInt8, Sendable {
    case connect = 1
    case connack, publish, puback
    case subscribe = 8
    case suback, unsubscribe, unsuback, pingreq, pingresp, disconnect

    /// The only flags that a packet of this type may have; nil for PUBLISH, which uses them.
    var prescribedFlags: UInt8? {
        switch self {
        case .publish: nil
        case .subscribe, .unsubscribe: 0b0010
        default: 0
        }
    }
}

/// The fixed header, MQTT 3.1.1 section 2.2: type and flags, then a length of 1 to 4 bytes.
package struct MQTTFixedHeader: Equatable, Sendable {
    package var type: MQTTPacketType
    /// The low four bits of the first byte.
    package var flags: UInt8
    /// Bytes after the header.
    package var remainingLength: Int

    /// The longest remaining length that four bytes can say.
    package static let longest = 268_435_455

    /// - Parameter limit: the longest remaining length accepted, in bytes.
    package static func parse(_ bytes: RawSpan, limit: Int) throws(MQTTError) -> Parsed<MQTTFixedHeader> {
        guard bytes.byteCount > 0 else { return .needMoreData(total: 2) }
        let first = bytes.byte(at: 0)
        guard let type = MQTTPacketType(rawValue: first >> 4) else { throw .unsupportedType(first >> 4) }
        let flags = first & 0x0F
        if let prescribed = type.prescribedFlags, flags != prescribed { throw .reservedFlags }
        var length = 0
        for index in 1...4 {
            guard index < bytes.byteCount else { return .needMoreData(total: index + 1) }
            let byte = bytes.byte(at: index)
            length |= Int(byte & 0x7F) << (7 * (index - 1))
            guard length <= limit else { throw .packetTooLarge(length) }
            if byte & 0x80 != 0 { continue }
            return .complete(Self(type: type, flags: flags, remainingLength: length), consumed: index + 1)
        }
        throw .malformedRemainingLength
    }

    package func write(to queue: inout ByteQueue) throws(MQTTError) {
        guard 0...Self.longest ~= remainingLength else { throw .packetTooLarge(remainingLength) }
        queue.append(type.rawValue << 4 | flags & 0x0F)
        var rest = remainingLength
        repeat {
            let low = UInt8(rest & 0x7F)
            rest >>= 7
            queue.append(rest > 0 ? low | 0x80 : low)
        } while rest > 0
    }
}
