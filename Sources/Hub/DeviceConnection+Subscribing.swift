import LinuxIO
import Registry
import Wire

/// What a device listens to: subscriptions that its session keeps (mqtt-device 7).
extension DeviceConnection {
    /// Subscriptions that one session may have; an excess is refused.
    private static let mostSubscriptions = 50

    /// Filters of features that this hub does not serve are refused, not silently accepted.
    private static let served: Set<HubFilter> = [.streamRequests, .streamAnswers, .methods, .twinResults, .desiredProperties, .devicebound]

    /// Whether the device asked for what this filter brings, and at which quality.
    func granted(_ filter: HubFilter) -> MQTTQoS? {
        guard let name = admission?.name else { return nil }
        return subscriptions.first { HubFilter($0.filter, from: name) == filter }.flatMap { MQTTQoS(rawValue: $0.qos) }
    }

    func subscribe(_ packetID: UInt16, _ wanted: [MQTTSubscription], on reactor: Reactor) {
        guard let name = admission?.name else { return }
        var granted: [MQTTQoS?] = []
        var next = subscriptions
        for subscription in wanted {
            next.removeAll { $0.filter == subscription.filter }
            guard let filter = HubFilter(subscription.filter, from: name), Self.served.contains(filter), next.count < Self.mostSubscriptions
            else {
                granted.append(nil)
                continue
            }
            let qos = min(subscription.qos, .atLeastOnce)
            granted.append(qos)
            next.append(.init(filter: subscription.filter, qos: qos.rawValue))
        }
        change(to: next, then: .suback(packetID: packetID, granted: granted), on: reactor)
    }

    func unsubscribe(_ packetID: UInt16, _ filters: [String], on reactor: Reactor) {
        change(to: subscriptions.filter { !filters.contains($0.filter) }, then: .unsuback(packetID: packetID), on: reactor)
    }

    /// Takes new subscriptions; a durable session's are on disk before they are acknowledged.
    private func change(to next: [MQTTSession.Subscription], then acknowledgement: MQTTPacket, on reactor: Reactor) {
        guard let admission else { return }
        guard admission.isDurable, next != subscriptions else {
            subscriptions = next
            return changed(acknowledgement, on: reactor)
        }
        subscriptions = next
        isCommitting = true
        let token = self.token, serial = admission.serial, mailbox = reactor.mailbox
        core.registry.submit(.setSession(admission.name, MQTTSession(subscriptions: next)), to: core.writer) { result in
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? DeviceConnection, connection.admission?.serial == serial else { return }
                connection.isCommitting = false
                switch result {
                case .success: connection.changed(acknowledgement, on: reactor)
                case .failure: connection.cut(.protocolError, detail: "the session could not be stored", on: reactor)
                }
                connection.goOn(on: reactor)
            }
        }
    }

    private func changed(_ acknowledgement: MQTTPacket, on reactor: Reactor) {
        emit(acknowledgement, on: reactor)
        tellInterests()
        deliver(on: reactor)
    }

    /// Tells the directory what the device can be asked.
    func tellInterests() {
        guard let admission else { return }
        var interests: DeviceInterests = []
        if granted(.streamRequests) != nil { interests.insert(.streams) }
        if granted(.methods) != nil { interests.insert(.methods) }
        core.directory.setInterests(interests, of: admission.name, serial: admission.serial)
    }
}
