import Bytes

extension WebSocketFrameHeader {
    /// Writes one whole frame: header, and the payload masked when there is a key.
    package static func encodeFrame(
        _ opcode: WebSocketOpcode, _ payload: RawSpan, fin: Bool = true, maskKey: UInt32? = nil, into output: inout ByteQueue
    ) {
        let header = WebSocketFrameHeader(fin: fin, opcode: opcode, maskKey: maskKey, payloadLength: payload.byteCount)
        header.encode(into: &output)
        WebSocketMask.append(payload, key: maskKey ?? 0, to: &output)
    }

    /// Writes the answer to a ping. A payload above 125 bytes, which no ping has, is cut.
    package static func encodePong(_ payload: [UInt8], maskKey: UInt32? = nil, into output: inout ByteQueue) {
        let bytes = payload.span.bytes
        encodeFrame(.pong, bytes.extracting(0..<min(bytes.byteCount, 125)), maskKey: maskKey, into: &output)
    }

    /// Writes a Close. Without a code, or with one that never goes on the wire, it is empty; a reason is cut to 123 bytes.
    package static func encodeClose(code: UInt16?, reason: String = "", maskKey: UInt32? = nil, into output: inout ByteQueue) {
        var payload: [UInt8] = []
        if let code, WebSocketClose.isValid(code) {
            payload = [UInt8(code >> 8), UInt8(code & 0xFF)]
            for scalar in reason.unicodeScalars {
                let encoded = UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter
                guard payload.count + encoded.count <= 125 else { break }
                payload.append(contentsOf: encoded)
            }
        }
        encodeFrame(.close, payload.span.bytes, maskKey: maskKey, into: &output)
    }
}
