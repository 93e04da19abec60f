import Bytes

/// A filter, and the quality of service asked for it.
package struct MQTTSubscription: Equatable, Sendable {
    package var filter: String
    package var qos: MQTTQoS

    package init(filter: String, qos: MQTTQoS) {
        self.filter = filter
        self.qos = qos
    }
}

/// An MQTT 3.1.1 control packet, as either side sends it (OASIS standard, section 3).
package enum MQTTPacket: Equatable, Sendable {
    case connect(MQTTConnect)
    /// A CONNECT of another version, read no further than its level: `MQIsdp` 3, `MQTT` 5. To be answered with code 1.
    case connectOfOtherVersion(protocolName: String, level: UInt8)
    case connack(sessionPresent: Bool, code: MQTTConnectCode)
    case publish(MQTTPublish)
    case puback(packetID: UInt16)
    case subscribe(packetID: UInt16, subscriptions: [MQTTSubscription])
    /// One code to a filter: the granted QoS, nil for a refusal (0x80).
    case suback(packetID: UInt16, granted: [MQTTQoS?])
    case unsubscribe(packetID: UInt16, filters: [String])
    case unsuback(packetID: UInt16)
    case pingreq
    case pingresp
    case disconnect

    /// The longest remaining length usually accepted, in bytes: a message of 256 KiB, the longest topic, and some room.
    package static let defaultLimit = (256 + 64 + 1) << 10

    /// Reads one packet from the start of what has arrived.
    /// - Parameter limit: the longest remaining length accepted, in bytes.
    package static func parse(_ bytes: RawSpan, limit: Int = defaultLimit) throws(MQTTError) -> Parsed<MQTTPacket> {
        let header: MQTTFixedHeader, start: Int
        switch try MQTTFixedHeader.parse(bytes, limit: limit) {
        case .needMoreData(let total): return .needMoreData(total: total)
        case .complete(let value, let consumed): (header, start) = (value, consumed)
        }
        let end = start + header.remainingLength
        guard bytes.byteCount >= end else { return .needMoreData(total: end) }
        var fields = MQTTFieldReader(place: start, end: end)
        let packet = try MQTTPacket(header, &fields, bytes)
        if case .connectOfOtherVersion = packet { return .complete(packet, consumed: end) }
        try fields.finish()
        return .complete(packet, consumed: end)
    }

    private init(_ header: MQTTFixedHeader, _ fields: inout MQTTFieldReader, _ bytes: RawSpan) throws(MQTTError) {
        switch header.type {
        case .connect: self = try Self.connect(&fields, bytes)
        case .connack: self = try Self.connack(&fields, bytes)
        case .publish: self = .publish(try MQTTPublish(&fields, bytes, flags: header.flags))
        case .puback: self = .puback(packetID: try fields.packetID(bytes))
        case .subscribe:
            let id = try fields.packetID(bytes)
            var subscriptions: [MQTTSubscription] = []
            repeat {
                guard !fields.isAtEnd else { throw .emptyList }
                let filter = try fields.topic(bytes)
                guard let qos = MQTTQoS(rawValue: try fields.byte(bytes)) else { throw .malformedQoS }
                subscriptions.append(MQTTSubscription(filter: filter, qos: qos))
            } while !fields.isAtEnd
            self = .subscribe(packetID: id, subscriptions: subscriptions)
        case .suback:
            let id = try fields.packetID(bytes)
            var granted: [MQTTQoS?] = []
            repeat {
                guard !fields.isAtEnd else { throw .emptyList }
                let code = try fields.byte(bytes)
                let qos = MQTTQoS(rawValue: code)
                guard qos != nil || code == 0x80 else { throw .unknownCode(code) }
                granted.append(qos)
            } while !fields.isAtEnd
            self = .suback(packetID: id, granted: granted)
        case .unsubscribe:
            let id = try fields.packetID(bytes)
            var filters: [String] = []
            repeat {
                guard !fields.isAtEnd else { throw .emptyList }
                filters.append(try fields.topic(bytes))
            } while !fields.isAtEnd
            self = .unsubscribe(packetID: id, filters: filters)
        case .unsuback: self = .unsuback(packetID: try fields.packetID(bytes))
        case .pingreq: self = .pingreq
        case .pingresp: self = .pingresp
        case .disconnect: self = .disconnect
        }
    }

    private static func connect(_ fields: inout MQTTFieldReader, _ bytes: RawSpan) throws(MQTTError) -> MQTTPacket {
        let name = try fields.string(bytes)
        guard name == "MQTT" || name == "MQIsdp" else { throw .unknownProtocol }
        let level = try fields.byte(bytes)
        guard name == "MQTT", level == MQTTConnect.level else { return .connectOfOtherVersion(protocolName: name, level: level) }
        return .connect(try MQTTConnect(&fields, bytes))
    }

    private static func connack(_ fields: inout MQTTFieldReader, _ bytes: RawSpan) throws(MQTTError) -> MQTTPacket {
        let flags = try fields.byte(bytes), number = try fields.byte(bytes)
        guard flags & 0xFE == 0 else { throw .reservedFlags }
        guard let code = MQTTConnectCode(rawValue: number) else { throw .unknownCode(number) }
        guard flags == 0 || code == .accepted else { throw .reservedFlags }
        return .connack(sessionPresent: flags == 1, code: code)
    }
}
