import Bytes

/// A place in a packet whose end is known, and the reading of its fields (MQTT 3.1.1 section 1.5).
struct MQTTFieldReader {
    private(set) var place: Int
    let end: Int

    var isAtEnd: Bool { place == end }

    mutating func take(_ count: Int) throws(MQTTError) -> Range<Int> {
        guard count <= end - place else { throw .fieldPastEnd }
        defer { place += count }
        return place..<(place + count)
    }

    mutating func byte(_ bytes: RawSpan) throws(MQTTError) -> UInt8 {
        bytes.byte(at: try take(1).lowerBound)
    }

    mutating func uint16(_ bytes: RawSpan) throws(MQTTError) -> UInt16 {
        bytes.bigEndian(at: try take(2).lowerBound, as: UInt16.self)
    }

    mutating func packetID(_ bytes: RawSpan) throws(MQTTError) -> UInt16 {
        let id = try uint16(bytes)
        guard id != 0 else { throw .zeroPacketID }
        return id
    }

    /// Two bytes of length, then as many bytes.
    mutating func data(_ bytes: RawSpan) throws(MQTTError) -> [UInt8] {
        let count = Int(try uint16(bytes))
        return bytes.extracting(try take(count)).toArray()
    }

    /// Two bytes of length, then UTF-8 without U+0000.
    mutating func string(_ bytes: RawSpan) throws(MQTTError) -> String {
        let count = Int(try uint16(bytes))
        let field = bytes.extracting(try take(count))
        guard field.firstIndex(of: 0) == nil, let text = field.toString() else { throw .malformedString }
        return text
    }

    /// A string of at least one character.
    mutating func topic(_ bytes: RawSpan) throws(MQTTError) -> String {
        let text = try string(bytes)
        guard !text.isEmpty else { throw .emptyTopic }
        return text
    }

    func finish() throws(MQTTError) {
        guard isAtEnd else { throw .trailingBytes }
    }
}

extension ByteQueue {
    /// Two bytes of length, then the bytes.
    mutating func append(mqttField bytes: RawSpan) throws(MQTTError) {
        guard let count = UInt16(exactly: bytes.byteCount) else { throw .packetTooLarge(bytes.byteCount) }
        append(bigEndian: count)
        append(bytes)
    }

    mutating func append(mqttString text: String) throws(MQTTError) {
        let bytes = text.utf8Span.span.bytes
        guard bytes.firstIndex(of: 0) == nil else { throw .malformedString }
        try append(mqttField: bytes)
    }
}
