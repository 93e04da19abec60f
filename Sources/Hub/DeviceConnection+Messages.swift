import LinuxIO
import Registry
import Wire

/// Cloud-to-device messages on their way to a connected device (mqtt-device 11).
extension DeviceConnection {
    /// Messages that may be unacknowledged at a time.
    private static let window = 16

    /// Gives the device what waits for it, as far as the window allows.
    func deliver(on reactor: Reactor) {
        guard let admission, admission.name.moduleID == nil, let qos = granted(.devicebound), isListening else { return }
        let device = admission.name.deviceID, holder = MessageLocks.Holder.connection(admission.serial)
        let room = Self.window - core.locks.messages(of: device, heldBy: holder).count
        guard room > 0, let queue = try? core.registry.messages(of: device) else { return }
        var isHalted = false
        for (queued, _) in core.locks.take(from: queue, of: device, for: holder, limit: room, seconds: core.limits.messageLockSeconds) {
            // What came back was sent to this session before, unless it is a new one.
            let isRepeated = admission.isResumed && queued.deliveryCount > 0
            if isHalted
                || !publish(
                    .devicebound(queued.message.properties), queued.message.body, qos, .message(queued.sequence), isRepeated: isRepeated,
                    on: reactor)
            {
                isHalted = true  // nothing overtakes it
                core.locks.release(queued.sequence, of: device)
            } else if qos == .atMostOnce {
                // At QoS 0 nobody says that it has come: what was written counts as received.
                settle(queued.sequence, .complete, on: reactor)
            }
        }
    }

    /// The device has acknowledged a packet.
    func acknowledged(_ id: UInt16, on reactor: Reactor) {
        switch outbox.acknowledged(id) {
        case .message(let message)?: settle(message, .complete, on: reactor)
        case .notice?, nil: break
        }
    }

    private func settle(_ message: UInt64, _ settlement: MessageSettlement, on reactor: Reactor) {
        guard let admission else { return }
        let token = self.token, serial = admission.serial, mailbox = reactor.mailbox
        core.settle(message, of: admission.name.deviceID, settlement) { _ in
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? DeviceConnection, connection.admission?.serial == serial else { return }
                connection.deliver(on: reactor)
            }
        }
    }
}

extension HubCore {
    /// Settles a message and frees it once that is on disk.
    func settle(
        _ message: UInt64, of device: String, _ settlement: MessageSettlement,
        completion: @escaping @Sendable (Result<RegistryOutcome, RegistryError>) -> Void = { _ in }
    ) {
        registry.submit(.settle(message: message, device: device, settlement), to: writer) { [self] result in
            locks.release(message, of: device)
            // Whoever has read of it in the change log may have come before it was free.
            if case .abandon = settlement { offerMessages(of: device) }
            completion(result)
        }
    }

    /// A message waits for a device: it may be there.
    func offerMessages(of device: String) {
        guard let name = ClientIdentity(deviceID: device), let presence = directory[name] else { return }
        presence.mailbox.send { reactor in (reactor.source(presence.token) as? DeviceConnection)?.deliver(on: reactor) }
    }

    /// Whoever held messages is gone: they come back to the queue.
    func abandonMessages(of device: String, heldBy holder: MessageLocks.Holder) {
        for message in locks.messages(of: device, heldBy: holder) { settle(message, of: device, .abandon) }
    }
}
