import Bytes
import ServerDouble
import Wire

/// A hub that says what a test wants it to say, over MQTT inside a WebSocket or bare.
final class HubDouble: Script {
    struct Behaviour: Sendable {
        var code = MQTTConnectCode.accepted
        var grants = true
        /// Says nothing after CONNACK and SUBACK, not even PINGRESP.
        var isSilent = false
        /// Hangs up in the middle of the conversation.
        var cutsAfterSubscribe = false
        /// Published after SUBACK.
        var requestTopic: String?
        var date = "Sun, 06 Nov 1994 08:49:37 GMT"
        var isBare = false
        /// Sent instead of SUBACK.
        var garbage: [UInt8]?
    }

    let behaviour: Behaviour
    let seen: @Sendable (MQTTPacket) -> Void
    private var isUpgraded: Bool
    private var receiver = WebSocketReceiver(role: .server)
    private var packets = ByteQueue()

    init(_ behaviour: Behaviour, seen: @escaping @Sendable (MQTTPacket) -> Void) {
        self.behaviour = behaviour
        self.seen = seen
        isUpgraded = behaviour.isBare
    }

    func received(_ bytes: RawSpan, _ reply: inout Reply) {
        if !isUpgraded {
            guard let parsed = try? HTTPRequestHead.parse(bytes), case .complete(let head, let consumed) = parsed else { return }
            guard let key = head.headers["Sec-WebSocket-Key"], head.path == "/$iothub/websocket" else { return reply.end = .finish }
            let offer = WebSocketHandshake.Offer(key: key, subprotocols: ["mqtt"])
            var answer = WebSocketHandshake.answer(to: offer, subprotocol: "mqtt")
            answer.headers["Date"] = behaviour.date
            answer.encode(into: &reply.output)
            isUpgraded = true
            reply.used = consumed
        }
        let rest = bytes.extracting(reply.used..<bytes.byteCount)
        reply.used = bytes.byteCount
        if behaviour.isBare {
            packets.append(rest)
        } else {
            var copy = rest.toArray()
            copy.withUnsafeMutableBytes { buffer in
                var position = 0
                while let event = try? receiver.next(in: buffer, at: &position) {
                    if case .payload(let range) = event { packets.append(UnsafeRawBufferPointer(rebasing: buffer[range]).bytes) }
                }
            }
        }
        while let (packet, length) = next() {
            packets.consume(length)
            seen(packet)
            answer(packet, &reply)
        }
    }

    private func next() -> (MQTTPacket, Int)? {
        packets.withBytes { waiting in
            guard let parsed = try? MQTTPacket.parse(waiting), case .complete(let packet, let length) = parsed else { return nil }
            return (packet, length)
        }
    }

    private func send(_ packet: MQTTPacket, _ reply: inout Reply) {
        var bytes = ByteQueue()
        try? packet.write(to: &bytes)
        raw(bytes.toArray(), &reply)
    }

    private func raw(_ bytes: [UInt8], _ reply: inout Reply) {
        if behaviour.isBare {
            reply.output.append(bytes.span.bytes)
        } else {
            WebSocketFrameHeader.encodeFrame(.binary, bytes.span.bytes, into: &reply.output)
        }
    }

    private func answer(_ packet: MQTTPacket, _ reply: inout Reply) {
        switch packet {
        case .connect:
            send(.connack(sessionPresent: false, code: behaviour.code), &reply)
            if behaviour.code != .accepted { reply.end = .finish }
        case .subscribe(let id, let subscriptions):
            if let garbage = behaviour.garbage { return raw(garbage, &reply) }
            send(.suback(packetID: id, granted: subscriptions.map { _ in behaviour.grants ? .atMostOnce : nil }), &reply)
            if behaviour.cutsAfterSubscribe { reply.end = .reset }
            if let topic = behaviour.requestTopic { send(.publish(MQTTPublish(topic: topic)), &reply) }
        case .pingreq: if !behaviour.isSilent { send(.pingresp, &reply) }
        default: break
        }
    }
}
