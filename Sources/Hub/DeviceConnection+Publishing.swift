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
        // What a device sends most of goes to the same topic again and again.
        if let known = telemetry.template(for: publish) { return gather(publish, known, payload, on: reactor) }
        do throws(HubTopicError) {
            let topic = try HubTopic.classify(publish.topic, from: name)
            if case .telemetry(let bag) = topic { return record(publish, bag, payload, on: reactor) }
            let ticket = acknowledgements.expect(publish.packetID)
            switch topic {
            case .telemetry: break
            case .streamAnswer(let answer):
                if let answer { answered(answer, on: reactor) }
            case .methodResponse(let status, let rid): answered(status: status, payload: payload, rid: rid, on: reactor)
            case .twinGet(let rid): getTwin(rid: rid, on: reactor)
            case .twinPatch(let rid, let version): return patchTwin(payload, rid: rid, ifVersion: version, ticket, on: reactor)
            }
            finish([ticket], on: reactor)
        } catch {
            guard case .malformedVersion(let rid) = error else {
                return cut(.protocolError, detail: "publish to a topic that is not the device's: \(error)", on: reactor)
            }
            refusePatch(rid: rid, on: reactor)
            finish([acknowledgements.expect(publish.packetID)], on: reactor)
        }
    }

    /// Publishes are done with: acknowledges them once those before them are, and goes on where too many had waited.
    func finish(_ tickets: [DeviceAcknowledgements.Ticket], on reactor: Reactor) {
        let wasHeld = isHeld
        let ids = acknowledgements.finish(tickets)
        if !ids.isEmpty { acknowledge(ids, on: reactor) }
        if wasHeld { goOn(on: reactor) }
    }
}
