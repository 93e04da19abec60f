import Bytes

/// What a broken connection makes the server publish, MQTT 3.1.1 section 3.1.2.5.
package struct MQTTWill: Equatable, Sendable {
    package var topic: String
    package var payload: [UInt8]
    package var qos: MQTTQoS
    package var retain: Bool

    package init(topic: String, payload: [UInt8], qos: MQTTQoS = .atMostOnce, retain: Bool = false) {
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
    }
}

/// CONNECT of protocol `MQTT`, level 4 (MQTT 3.1.1 section 3.1). Prints without its password.
package struct MQTTConnect: Equatable, Sendable, CustomStringConvertible, CustomReflectable {
    /// May be empty: the hub answers that with code 2.
    package var clientID: String
    package var userName: String?
    package var password: [UInt8]?
    package var cleanSession: Bool
    /// Seconds; 0 means no limit.
    package var keepAliveSeconds: UInt16
    package var will: MQTTWill?

    package init(
        clientID: String, userName: String? = nil, password: [UInt8]? = nil, cleanSession: Bool = false, keepAliveSeconds: UInt16 = 60,
        will: MQTTWill? = nil
    ) {
        self.clientID = clientID
        self.userName = userName
        self.password = password
        self.cleanSession = cleanSession
        self.keepAliveSeconds = keepAliveSeconds
        self.will = will
    }

    package var description: String { "MQTTConnect(clientID: \(clientID), keepAliveSeconds: \(keepAliveSeconds))" }
    package var customMirror: Mirror {
        Mirror(self, children: ["clientID": clientID, "cleanSession": cleanSession, "keepAliveSeconds": keepAliveSeconds])
    }

    static let level: UInt8 = 4

    /// Reads what follows the protocol level.
    init(_ fields: inout MQTTFieldReader, _ bytes: RawSpan) throws(MQTTError) {
        let flags = try fields.byte(bytes)
        let hasWill = flags & 0x04 != 0, hasPassword = flags & 0x40 != 0, hasUserName = flags & 0x80 != 0
        guard flags & 0x01 == 0, hasUserName || !hasPassword, hasWill || flags & 0x38 == 0,
            let willQoS = MQTTQoS(rawValue: flags >> 3 & 3)
        else { throw .malformedConnectFlags }
        cleanSession = flags & 0x02 != 0
        keepAliveSeconds = try fields.uint16(bytes)
        clientID = try fields.string(bytes)
        if hasWill {
            let topic = try fields.topic(bytes)
            will = MQTTWill(topic: topic, payload: try fields.data(bytes), qos: willQoS, retain: flags & 0x20 != 0)
        }
        if hasUserName { userName = try fields.string(bytes) }
        if hasPassword { password = try fields.data(bytes) }
    }

    func writeBody(to queue: inout ByteQueue) throws(MQTTError) {
        guard userName != nil || password == nil else { throw .malformedConnectFlags }
        var flags: UInt8 = cleanSession ? 0x02 : 0
        if let will { flags |= 0x04 | will.qos.rawValue << 3 | (will.retain ? 0x20 : 0) }
        if password != nil { flags |= 0x40 }
        if userName != nil { flags |= 0x80 }
        try queue.append(mqttString: "MQTT")
        queue.append(Self.level)
        queue.append(flags)
        queue.append(bigEndian: keepAliveSeconds)
        try queue.append(mqttString: clientID)
        if let will {
            guard !will.topic.isEmpty else { throw .emptyTopic }
            try queue.append(mqttString: will.topic)
            try queue.append(mqttField: will.payload.span.bytes)
        }
        if let userName { try queue.append(mqttString: userName) }
        if let password { try queue.append(mqttField: password.span.bytes) }
    }
}

/// The return code of a CONNACK, MQTT 3.1.1 section 3.2.2.3; when the hub uses which: mqtt-device 6.
package enum MQTTConnectCode: UInt8, Sendable {
    case accepted
    case unacceptableProtocolVersion
    case identifierRejected
    case serverUnavailable
    case badUserNameOrPassword
    case notAuthorized
}
