import Bytes

/// Which end of the WebSocket we are: a server receives masked frames and sends bare ones, a client the reverse.
package enum WebSocketRole: Sendable {
    case server, client
}

package enum WebSocketOpcode: UInt8, Sendable {
    case continuation = 0
    case text = 1
    case binary = 2
    case close = 8
    case ping = 9
    case pong = 10

    package var isControl: Bool { rawValue >= 8 }
}

/// The header of a frame: RFC 6455 section 5.2.
///
///     | FIN RSV1-3 opcode(4) | MASK length(7) | length: 0, 2 or 8 bytes | key: 0 or 4 bytes |
package struct WebSocketFrameHeader: Equatable, Sendable {
    package var fin: Bool
    package var opcode: WebSocketOpcode
    /// The masking key, its first byte the most significant; nil without a mask.
    package var maskKey: UInt32?
    /// Bytes of payload behind the header.
    package var payloadLength: Int

    package init(fin: Bool = true, opcode: WebSocketOpcode, maskKey: UInt32? = nil, payloadLength: Int) {
        self.fin = fin
        self.opcode = opcode
        self.maskKey = maskKey
        self.payloadLength = payloadLength
    }

    /// The longest header, in bytes.
    package static let maximumLength = 14

    /// Reads a header that `role` receives. Extensions are never agreed on, so the reserved bits must be clear.
    package static func parse(_ bytes: RawSpan, role: WebSocketRole) throws(WebSocketError) -> Parsed<WebSocketFrameHeader> {
        guard bytes.byteCount > 0 else { return .needMoreData(total: 2) }
        let first = bytes.byte(at: 0)
        guard first & 0x70 == 0 else { throw .reservedBits }
        guard let opcode = WebSocketOpcode(rawValue: first & 0x0F) else { throw .unknownOpcode }
        let fin = first & 0x80 != 0
        guard fin || !opcode.isControl else { throw .controlFragmented }
        guard bytes.byteCount > 1 else { return .needMoreData(total: 2) }

        let second = bytes.byte(at: 1)
        let masked = second & 0x80 != 0
        if masked != (role == .server) { throw masked ? .maskUnexpected : .maskMissing }
        var length = Int(second & 0x7F)
        guard length <= 125 || !opcode.isControl else { throw .controlTooLong }
        let lengthEnd = length == 127 ? 10 : length == 126 ? 4 : 2
        let end = lengthEnd + (masked ? 4 : 0)
        guard bytes.byteCount >= lengthEnd else { return .needMoreData(total: end) }
        if length == 126 {
            length = Int(bytes.bigEndian(at: 2, as: UInt16.self))
            guard length > 125 else { throw .nonMinimalLength }
        } else if length == 127 {
            guard let long = Int(exactly: bytes.bigEndian(at: 2, as: UInt64.self)) else { throw .lengthOverflow }
            guard long > 0xFFFF else { throw .nonMinimalLength }
            length = long
        }
        guard bytes.byteCount >= end else { return .needMoreData(total: end) }
        let key = masked ? bytes.bigEndian(at: lengthEnd, as: UInt32.self) : nil
        return .complete(WebSocketFrameHeader(fin: fin, opcode: opcode, maskKey: key, payloadLength: length), consumed: end)
    }

    /// Bytes of this header on the wire.
    package var encodedLength: Int {
        2 + (payloadLength > 0xFFFF ? 8 : payloadLength > 125 ? 2 : 0) + (maskKey == nil ? 0 : 4)
    }

    package func encode(into output: inout ByteQueue) {
        let room = output.reserve(Self.maximumLength)
        output.commit(encode(to: room))
    }

    /// Writes the header to the start of `room`, which has at least `maximumLength` bytes, and tells how many it took.
    package func encode(to room: UnsafeMutableRawBufferPointer) -> Int {
        precondition(room.count >= Self.maximumLength && payloadLength >= 0)
        let mask: UInt8 = maskKey == nil ? 0 : 0x80
        room[0] = (fin ? 0x80 : 0) | opcode.rawValue
        var end = 2
        if payloadLength <= 125 {
            room[1] = mask | UInt8(payloadLength)
        } else if payloadLength <= 0xFFFF {
            room[1] = mask | 126
            room.storeBytes(of: UInt16(payloadLength).bigEndian, toByteOffset: 2, as: UInt16.self)
            end = 4
        } else {
            room[1] = mask | 127
            room.storeBytes(of: UInt64(payloadLength).bigEndian, toByteOffset: 2, as: UInt64.self)
            end = 10
        }
        if let maskKey {
            room.storeBytes(of: maskKey.bigEndian, toByteOffset: end, as: UInt32.self)
            end += 4
        }
        return end
    }
}
