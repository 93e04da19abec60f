import Bytes

extension MQTTPacket {
    /// Appends the packet. On an error nothing has been appended.
    /// - Parameter payload: a PUBLISH's payload; nothing else looks at it.
    package func write(to queue: inout ByteQueue, payload: RawSpan = RawSpan()) throws(MQTTError) {
        switch self {
        case .connect(let connect):
            var body = ByteQueue()
            try connect.writeBody(to: &body)
            try Self.write(.connect, body, to: &queue)
        case .connectOfOtherVersion(let name, let level):
            var body = ByteQueue()
            try body.append(mqttString: name)
            body.append(level)
            try Self.write(.connect, body, to: &queue)
        case .connack(let sessionPresent, let code):
            try Self.write(.connack, ByteQueue([sessionPresent && code == .accepted ? 1 : 0, code.rawValue]), to: &queue)
        case .publish(let publish): try publish.write(payload: payload, to: &queue)
        case .puback(let id): try Self.write(.puback, Self.body(id), to: &queue)
        case .subscribe(let id, let subscriptions):
            var body = try Self.body(id)
            guard !subscriptions.isEmpty else { throw .emptyList }
            for subscription in subscriptions {
                guard !subscription.filter.isEmpty else { throw .emptyTopic }
                try body.append(mqttString: subscription.filter)
                body.append(subscription.qos.rawValue)
            }
            try Self.write(.subscribe, body, to: &queue)
        case .suback(let id, let granted):
            var body = try Self.body(id)
            guard !granted.isEmpty else { throw .emptyList }
            for qos in granted { body.append(qos?.rawValue ?? 0x80) }
            try Self.write(.suback, body, to: &queue)
        case .unsubscribe(let id, let filters):
            var body = try Self.body(id)
            guard !filters.isEmpty else { throw .emptyList }
            for filter in filters {
                guard !filter.isEmpty else { throw .emptyTopic }
                try body.append(mqttString: filter)
            }
            try Self.write(.unsubscribe, body, to: &queue)
        case .unsuback(let id): try Self.write(.unsuback, Self.body(id), to: &queue)
        case .pingreq: try Self.write(.pingreq, ByteQueue(), to: &queue)
        case .pingresp: try Self.write(.pingresp, ByteQueue(), to: &queue)
        case .disconnect: try Self.write(.disconnect, ByteQueue(), to: &queue)
        }
    }

    private static func body(_ id: UInt16) throws(MQTTError) -> ByteQueue {
        guard id != 0 else { throw .zeroPacketID }
        var body = ByteQueue()
        body.append(bigEndian: id)
        return body
    }

    /// Appends a PUBACK for each identifier, as `write` does one by one.
    package static func writePubacks(_ ids: [UInt16], to queue: inout ByteQueue) {
        for id in ids {
            queue.append(bigEndian: UInt16(MQTTPacketType.puback.rawValue) << 12 | 2)
            queue.append(bigEndian: id)
        }
    }

    private static func write(_ type: MQTTPacketType, _ body: borrowing ByteQueue, to queue: inout ByteQueue) throws(MQTTError) {
        try MQTTFixedHeader(type: type, flags: type.prescribedFlags ?? 0, remainingLength: body.count).write(to: &queue)
        body.withBytes { queue.append($0) }
    }
}
