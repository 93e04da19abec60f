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
        do throws(HubTopicError) {
            switch try HubTopic.classify(publish.topic, from: name) {
            case .streamAnswer(let answer):
                if let answer { answered(answer, on: reactor) }
            case .methodResponse(let status, let rid): answered(status: status, payload: payload, rid: rid, on: reactor)
            case .telemetry, .twinGet, .twinPatch:
                return cut(.protocolError, detail: "this hub does not serve telemetry and twins", on: reactor)
            }
        } catch {
            return cut(.protocolError, detail: "publish to a topic that is not the device's: \(error)", on: reactor)
        }
        if publish.qos == .atLeastOnce, let id = publish.packetID { emit(.puback(packetID: id), on: reactor) }
    }
}
