import Bytes
import LinuxIO
import Registry
import Telemetry
import Wire

/// Messages of one device on their way to the log: those of one read go together.
struct DeviceTelemetry: ~Copyable {
    /// What was made of the last topic.
    private var topic = "", isRetained = false, known: TelemetryTemplate?
    /// Messages of the read that is being worked off, and the places among the acknowledgements of those that want one.
    fileprivate var gathered: TelemetryBundle?
    fileprivate var tickets: [DeviceAcknowledgements.Ticket] = []
    /// Messages that the log had no room for; nothing else is read meanwhile.
    fileprivate var deferred: TelemetryBundle?
    fileprivate var deferredTickets: [DeviceAcknowledgements.Ticket] = []

    var isDeferred: Bool {
        switch deferred {
        case .some: true
        case .none: false
        }
    }

    func template(for publish: MQTTPublish) -> TelemetryTemplate? {
        publish.topic == topic && publish.retain == isRetained ? known : nil
    }

    /// Adds a message to those of this read; false when it is too large.
    fileprivate mutating func gather(_ template: TelemetryTemplate, body: RawSpan, of device: String) -> Bool {
        var bundle = gathered.take()
        if bundle == nil { bundle = TelemetryBundle(of: device) }
        let isTaken = bundle?.append(template, body: body) == true
        gathered = bundle
        return isTaken
    }

    fileprivate mutating func remember(_ template: TelemetryTemplate, of publish: MQTTPublish) {
        (topic, isRetained, known) = (publish.topic, publish.retain, template)
    }
}

/// What a device measures (mqtt-device 10).
extension DeviceConnection {
    /// Milliseconds for which a device that sends too much is slowed down; one that is worse is cut off (mqtt-device 19).
    private static let longestHold = 60_000

    /// A message to a topic other than the last.
    func record(_ publish: MQTTPublish, _ bag: PropertyBag, _ payload: RawSpan, on reactor: Reactor) {
        guard let admission else { return }
        let envelope = TelemetryIntake.envelope(
            bag, from: admission.principal, model: admission.model, extra: publish.retain ? [.init("mqtt-retain", "true")] : [])
        guard let template = TelemetryTemplate(envelope) else {
            return cut(.protocolError, detail: "a message's properties are too long", on: reactor)
        }
        telemetry.remember(template, of: publish)
        gather(publish, template, payload, on: reactor)
    }

    /// Adds a message to those of this read; it is acknowledged once it is on disk.
    func gather(_ publish: MQTTPublish, _ template: TelemetryTemplate, _ payload: RawSpan, on reactor: Reactor) {
        guard let name = admission?.name else { return }
        let fixed = name.path.utf8.count + "/messages/events/".utf8.count
        guard payload.byteCount + max(0, publish.topic.utf8.count - fixed) <= TelemetryIntake.mostBytes else {
            return cut(.protocolError, detail: "a message of \(payload.byteCount) bytes", on: reactor)
        }
        guard telemetry.gather(template, body: payload, of: name.deviceID) else {
            return cut(.protocolError, detail: "a message is too large", on: reactor)
        }
        if publish.qos == .atLeastOnce { telemetry.tickets.append(acknowledgements.expect(publish.packetID)) }
    }

    /// Gives the log what a read has brought.
    func recordGathered(on reactor: Reactor) {
        guard let batch = telemetry.gathered.take() else { return }
        guard let wait = core.throttles.delay(of: .telemetry, count: batch.count, most: Self.longestHold) else {
            return cut(.throttled, on: reactor)  // what is not acknowledged comes again
        }
        if wait > 0 { hold(milliseconds: wait, on: reactor) }
        submit(batch, exchange(&telemetry.tickets, with: []), on: reactor)
    }

    private func submit(_ batch: consuming TelemetryBundle, _ tickets: [DeviceAcknowledgements.Ticket], on reactor: Reactor) {
        guard let serial = admission?.serial else { return }
        let token = self.token, mailbox = reactor.mailbox
        let submission = core.telemetry.submit(batch) { result in
            // At QoS 0 nobody waits to hear of it.
            guard !tickets.isEmpty else { return }
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? DeviceConnection, connection.admission?.serial == serial else { return }
                connection.recorded(result, tickets, on: reactor)
            }
        }
        switch submission {
        case .accepted: break
        case .refused(let error): recorded(.failure(error), tickets, on: reactor)
        case .full:
            let device = batch.deviceID
            telemetry.deferred = consume batch
            telemetry.deferredTickets = tickets
            core.telemetry.whenRoom(for: device) {
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
        guard let batch = telemetry.deferred.take() else { return }
        submit(batch, exchange(&telemetry.deferredTickets, with: []), on: reactor)
        goOn(on: reactor)
    }

    private func recorded(
        _ result: Result<TelemetryPosition, TelemetryError>, _ tickets: [DeviceAcknowledgements.Ticket], on reactor: Reactor
    ) {
        switch result {
        case .success: finish(tickets, on: reactor)
        // Without an acknowledgement the device keeps its messages and sends them again after it has come back.
        case .failure(let error): if !tickets.isEmpty { cut(.unavailable, detail: error.description, on: reactor) }
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
