import Bytes
import LinuxIO
import Registry
import Telemetry
import Wire

/// What a device measures, on its way to the log (mqtt-device 10).
extension DeviceConnection {
    /// A message that the log had no room for, and its place among the acknowledgements.
    struct Deferred {
        let envelope: TelemetryEnvelope
        let body: [UInt8]
        let ticket: DeviceAcknowledgements.Ticket
        let qos: MQTTQoS
    }

    /// Puts a message into the log; it is acknowledged once it is on disk.
    func record(_ bag: PropertyBag, _ publish: MQTTPublish, payload: RawSpan, _ ticket: DeviceAcknowledgements.Ticket, on reactor: Reactor)
    {
        guard let admission else { return }
        guard payload.byteCount + publish.topic.utf8.count <= TelemetryIntake.mostBytes + admission.name.path.utf8.count + 32 else {
            return cut(.protocolError, detail: "a message of \(payload.byteCount) bytes", on: reactor)
        }
        let envelope = TelemetryIntake.envelope(
            bag, from: admission.principal, model: admission.model, extra: publish.retain ? [.init("mqtt-retain", "true")] : [])
        submit(envelope, payload, ticket, publish.qos, on: reactor)
    }

    private func submit(
        _ envelope: TelemetryEnvelope, _ body: RawSpan, _ ticket: DeviceAcknowledgements.Ticket, _ qos: MQTTQoS, on reactor: Reactor
    ) {
        guard let serial = admission?.serial else { return }
        let token = self.token, mailbox = reactor.mailbox
        let submission = core.telemetry.submit(envelope, body: body) { result in
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? DeviceConnection, connection.admission?.serial == serial else { return }
                connection.recorded(result, ticket, qos, on: reactor)
            }
        }
        switch submission {
        case .accepted: break
        case .refused(let error): recorded(.failure(error), ticket, qos, on: reactor)
        case .full:
            deferred = Deferred(envelope: envelope, body: body.toArray(), ticket: ticket, qos: qos)
            core.telemetry.whenRoom(for: envelope.deviceID) {
                mailbox.send { reactor in
                    guard let connection = reactor.source(token) as? DeviceConnection, connection.admission?.serial == serial else {
                        return
                    }
                    connection.recordDeferred(on: reactor)
                }
            }
        }
    }

    private func recordDeferred(on reactor: Reactor) {
        guard let message = deferred.take() else { return }
        submit(message.envelope, message.body.span.bytes, message.ticket, message.qos, on: reactor)
        goOn(on: reactor)
    }

    private func recorded(
        _ result: Result<TelemetryPosition, TelemetryError>, _ ticket: DeviceAcknowledgements.Ticket, _ qos: MQTTQoS, on reactor: Reactor
    ) {
        switch result {
        case .success: finish(ticket, on: reactor)
        // Without an acknowledgement the device keeps the message and sends it again after it has come back.
        case .failure(let error) where qos != .atMostOnce: cut(.unavailable, detail: error.description, on: reactor)
        case .failure: finish(ticket, on: reactor)
        }
    }

    /// Whoever goes without a word leaves its will (mqtt-device 10.5).
    func leaveWill() {
        guard let admission, let will = admission.will else { return }
        let bag = PropertyBag(parsing: will.topic.dropFirst(admission.name.path.count + "/messages/events".count).drop { $0 == "/" })
        var extra: [TelemetryEnvelope.Property] = [.init("iothub-MessageType", "Will")]
        if will.retain { extra.append(.init("mqtt-retain", "true")) }
        let envelope = TelemetryIntake.envelope(bag ?? PropertyBag(), from: admission.principal, model: admission.model, extra: extra)
        _ = core.telemetry.submit(envelope, body: will.payload.span.bytes) { _ in }
    }
}
