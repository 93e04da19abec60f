import Bytes
import LinuxIO
import Registry
import Streams
import Wire

/// What the hub asks of a device: streams and direct methods (device-streams 4, mqtt-device 13).
extension DeviceConnection {
    // Streams

    /// Publishes a request for a stream; false when the device cannot take one.
    func requestStream(
        _ stream: StreamIdentifier, home: Mailbox, name: String, path: String, token: String, offer: String?, on reactor: Reactor
    ) -> Bool {
        guard isListening, granted(.streamRequests) != nil, let host = admission?.host else { return false }
        let rid = questions.ask(.init(stream: stream, home: home))
        let place = authority ?? HostPort(host: host, port: core.httpsPort)
        let url = StreamURL(host: place.host, port: place.port ?? 443, path: path)
        let request = StreamRequest(
            streamName: name, rid: rid, url: url.description, auth: token, fields: offer.map { [TopicField("$offer", $0)] } ?? [])
        guard let topic = try? request.topic() else {
            questions.forget(stream)
            return false
        }
        emit(.publish(MQTTPublish(topic: topic)), on: reactor)
        return true
    }

    /// The stream is over or answered; a late answer is ignored.
    func forgetStream(_ stream: StreamIdentifier) { questions.forget(stream) }

    func answered(_ answer: StreamAnswer, on reactor: Reactor) {
        guard let question = questions.stream(answering: answer.rid) else { return }
        let stream = question.stream, isAccepted = answer.isAccepted
        let chosen = answer.fields["$chosen"], reason = answer.fields["$reason"].map { String($0.prefix(200)) }
        question.home.send { reactor in
            Desk.of(reactor)?.stream(stream)?.answered(isAccepted: isAccepted, chosen: chosen, reason: reason, on: reactor)
        }
    }

    // Methods

    /// Publishes a call; what is wrong when the device cannot take it.
    func call(_ request: MethodRequest, for call: Token, home: Mailbox, on reactor: Reactor) -> MethodCall.Outcome? {
        guard isListening, granted(.methods) != nil, let client = admission?.name else { return .notOnline }
        guard questions.hasRoomForCall else { return .tooMany }
        let rid = questions.ask(.init(call: call, home: home))
        let topic = HubPublication.method(name: request.name, rid: rid).topic(for: client)
        emit(.publish(MQTTPublish(topic: topic)), payload: request.payload.span.bytes, on: reactor)
        return nil
    }

    /// The caller has stopped waiting.
    func forget(call: Token, of home: Mailbox) { questions.forget(call: call, of: home) }

    /// An answer to a call; a late one is dropped.
    func answered(status: Int64, payload: RawSpan, rid: String, on reactor: Reactor) {
        guard let question = questions.call(answering: rid) else { return }
        let outcome: MethodCall.Outcome
        if payload.byteCount > MethodRequest.mostPayloadBytes || payload.byteCount > 0 && (try? JSONValue.parse(payload)) == nil {
            outcome = .badAnswer
        } else {
            outcome = .answered(status: status, payload: payload.byteCount == 0 ? Array("null".utf8) : payload.toArray())
        }
        let call = question.call
        question.home.send { reactor in (reactor.source(call) as? MethodCall)?.finish(outcome, on: reactor) }
    }
}
