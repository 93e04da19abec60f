import Bytes
import LinuxIO
import Registry
import Wire

/// What a device publishes (mqtt-device 8).
extension DeviceConnection {
    func publish(_ publish: MQTTPublish, payload: RawSpan, on reactor: Reactor) {
        guard let name = admission?.name, publish.qos < .exactlyOnce else {
            return cut(.protocolError, detail: "QoS 2 is not served", on: reactor)
        }
        let ticket = acknowledgements.expect(publish.packetID)
        do throws(HubTopicError) {
            switch try HubTopic.classify(publish.topic, from: name) {
            case .streamAnswer(let answer):
                if let answer { answered(answer, on: reactor) }
            case .methodResponse(let status, let rid): answered(status: status, payload: payload, rid: rid, on: reactor)
            case .twinGet(let rid): getTwin(rid: rid, on: reactor)
            case .twinPatch(let rid, let version): return patchTwin(payload, rid: rid, ifVersion: version, ticket, on: reactor)
            case .telemetry(let bag): return record(bag, publish, payload: payload, ticket, on: reactor)
            }
        } catch {
            guard case .malformedVersion(let rid) = error else {
                return cut(.protocolError, detail: "publish to a topic that is not the device's: \(error)", on: reactor)
            }
            refusePatch(rid: rid, on: reactor)
        }
        finish(ticket, on: reactor)
    }

    /// A publish is done with: acknowledges it once those before it are, and goes on where too many had waited.
    func finish(_ ticket: DeviceAcknowledgements.Ticket, on reactor: Reactor) {
        let wasHeld = isHeld
        for id in acknowledgements.finish(ticket) { emit(.puback(packetID: id), on: reactor) }
        if wasHeld { goOn(on: reactor) }
    }
}
