import Bytes

/// Quality of service: how often a message may arrive.
package enum MQTTQoS: UInt8, Sendable, Comparable {
    case atMostOnce
    case atLeastOnce
    case exactlyOnce

    package static func < (one: MQTTQoS, other: MQTTQoS) -> Bool { one.rawValue < other.rawValue }
}

/// PUBLISH without its payload, MQTT 3.1.1 section 3.3.
package struct MQTTPublish: Equatable, Sendable {
    /// Not empty. Wildcards are left to whoever knows the topic: an id may hold `+` and `#`.
    package var topic: String
    package var qos: MQTTQoS
    package var retain: Bool
    package var isDuplicate: Bool
    /// 1 to 65535; nil exactly for QoS 0.
    package var packetID: UInt16?
    /// Where the payload of a parsed packet lies, in bytes from the packet's first byte.
    package var payload: Range<Int>

    package init(
        topic: String, qos: MQTTQoS = .atMostOnce, packetID: UInt16? = nil, retain: Bool = false, isDuplicate: Bool = false,
        payload: Range<Int> = 0..<0
    ) {
        self.topic = topic
        self.qos = qos
        self.packetID = packetID
        self.retain = retain
        self.isDuplicate = isDuplicate
        self.payload = payload
    }

    init(_ fields: inout MQTTFieldReader, _ bytes: RawSpan, flags: UInt8) throws(MQTTError) {
        guard let qos = MQTTQoS(rawValue: flags >> 1 & 3) else { throw .malformedQoS }
        self.qos = qos
        retain = flags & 0x01 != 0
        isDuplicate = flags & 0x08 != 0
        guard qos != .atMostOnce || !isDuplicate else { throw .malformedQoS }
        topic = try fields.topic(bytes)
        if qos != .atMostOnce { packetID = try fields.packetID(bytes) }
        payload = try fields.take(fields.end - fields.place)
    }

    /// Appends the packet with this payload; `self.payload` is not looked at.
    package func write(payload: RawSpan, to queue: inout ByteQueue) throws(MQTTError) {
        guard !topic.isEmpty else { throw .emptyTopic }
        guard (packetID != nil) == (qos != .atMostOnce), packetID != 0 else { throw .zeroPacketID }
        guard qos != .atMostOnce || !isDuplicate else { throw .malformedQoS }
        guard topic.utf8.count <= Int(UInt16.max) else { throw .packetTooLarge(topic.utf8.count) }
        let name = topic.utf8Span.span.bytes
        guard name.firstIndex(of: 0) == nil else { throw .malformedString }
        let flags = (isDuplicate ? 0x08 : 0) | qos.rawValue << 1 | (retain ? 0x01 : 0)
        let length = 2 + name.byteCount + (packetID == nil ? 0 : 2) + payload.byteCount
        try MQTTFixedHeader(type: .publish, flags: flags, remainingLength: length).write(to: &queue)
        try queue.append(mqttField: name)
        if let packetID { queue.append(bigEndian: packetID) }
        queue.append(payload)
    }
}
