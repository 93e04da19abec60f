import Bytes
import Connections
import LinuxIO
import Registry
import Serving
import Wire

/// A device's own twin: reading it, reporting, and hearing what is desired (mqtt-device 12).
extension DeviceConnection {
    func getTwin(rid: String, on reactor: Reactor) {
        guard let name = admission?.name else { return }
        do throws(RegistryError) {
            try throttle(.twinReads)
            tellTwin(200, rid: rid, payload: try core.registry.deviceTwin(name).bytes(), on: reactor)
        } catch { tellTwin(error, rid: rid, on: reactor) }
    }

    /// Merges into the reported properties; the answer, and the acknowledgement, come when it is on disk.
    func patchTwin(
        _ payload: RawSpan, rid: String, ifVersion: Int64?, _ ticket: DeviceAcknowledgements.Ticket, on reactor: Reactor
    ) {
        guard let admission else { return }
        let patch: JSONObject
        do throws(RegistryError) {
            try throttle(.twinUpdates)
            patch = try TwinChange.reported(payload: payload)
        } catch {
            tellTwin(error, rid: rid, on: reactor)
            return finish([ticket], on: reactor)
        }
        let token = self.token, serial = admission.serial, mailbox = reactor.mailbox, core = self.core, name = admission.name
        core.registry.submit(.report(name, patch, ifVersion: ifVersion), to: core.writer) { result in
            if case .success = result { core.stirred(name) }
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? DeviceConnection, connection.admission?.serial == serial else { return }
                switch result {
                case .success(.reported(let version)): connection.tellTwin(204, rid: rid, version: version, on: reactor)
                case .success: break
                case .failure(let error): connection.tellTwin(error, rid: rid, on: reactor)
                }
                connection.finish([ticket], on: reactor)
            }
        }
    }

    private func throttle(_ operation: ThrottledOperation) throws(RegistryError) {
        if let wait = core.throttles.refusal(of: operation) { throw .throttled(milliseconds: wait) }
    }

    /// Tells that desired properties have changed, if the device wants to hear it.
    ///
    /// What the device does not take is left out: the gap in the versions tells it to read its twin anew.
    func tell(_ notice: DesiredNotice, on reactor: Reactor) {
        guard let qos = granted(.desiredProperties), isListening else { return }
        publish(.desiredProperties(version: notice.version), notice.payload, qos, .notice, on: reactor)
    }

    private func tellTwin(_ error: RegistryError, rid: String, on reactor: Reactor) {
        tellTwin(error.httpStatus, rid: rid, payload: HTTPAnswer.detail(error).bytes(), on: reactor)
    }

    private func tellTwin(_ status: Int, rid: String, version: Int64? = nil, payload: [UInt8] = [], on reactor: Reactor) {
        publish(.twinResult(status: status, rid: rid, version: version), payload, .atMostOnce, .notice, on: reactor)
    }

    /// A patch whose `$version` is no number.
    func refusePatch(rid: String, on reactor: Reactor) { tellTwin(.argumentInvalid("$version is no number"), rid: rid, on: reactor) }

    /// Publishes to the device; false and left out when at QoS 1 too much is unacknowledged.
    ///
    /// - Parameter isRepeated: whether the stored session may have had it before; at QoS 1 the packet says so.
    @discardableResult
    func publish(
        _ publication: HubPublication, _ payload: [UInt8], _ qos: MQTTQoS, _ delivery: DeviceOutbox.Delivery, isRepeated: Bool = false,
        on reactor: Reactor
    ) -> Bool {
        guard let client = admission?.name else { return false }
        var packet = MQTTPublish(topic: publication.topic(for: client), qos: qos)
        if qos == .atLeastOnce {
            guard let (id, isAgain) = outbox.send(delivery) else { return false }
            packet.packetID = id
            packet.isDuplicate = isAgain || isRepeated
        }
        emit(.publish(packet), payload: payload.span.bytes, on: reactor)
        return true
    }
}
