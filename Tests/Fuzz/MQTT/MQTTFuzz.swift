import Bytes
import FuzzSupport
import Wire

@main
enum MQTTFuzz {
    static func main() {
        runFuzzer(fuzzMQTT)
    }
}

private let clients = ["d", "d/m", "+"].compactMap(ClientIdentity.init(clientID:))

private func verdict(_ bytes: RawSpan, limit: Int) -> (verdict: Verdict<MQTTPacket>, wanted: Int) {
    do throws(MQTTError) {
        switch try MQTTPacket.parse(bytes, limit: limit) {
        case .needMoreData(let total): return (.more, total)
        case .complete(let packet, let consumed): return (.value(packet, consumed: consumed), 0)
        }
    } catch {
        return (.refused("\(error)"), 0)
    }
}

private func fuzzMQTT(_ input: inout FuzzInput) {
    let limit = input.number(below: 4) == 0 ? 32 : MQTTPacket.defaultLimit
    if case .value(let packet, let consumed) = checkSplits(of: &input, { verdict($0, limit: limit) }) {
        fuzzWriting(packet, input.bytes)
        fuzzNames(packet)
        check(consumed <= limit + 5, "a packet keeps its limit")
    }
    guard let text = String(validating: input.bytes, as: UTF8.self) else { return }
    fuzzTopic(text)
    fuzzFilter(text)
    for client in clients { _ = MQTTUserName(text, clientID: client.clientID) }
    if let bag = PropertyBag(parsing: text) { check(PropertyBag(parsing: bag.text) == bag, "a bag is read as it is written") }
}

/// What was read and written is read the same, wherever its payload comes to lie.
private func fuzzWriting(_ packet: MQTTPacket, _ bytes: [UInt8]) {
    var output = ByteQueue()
    var payload: [UInt8] = []
    if case .publish(let publish) = packet {
        check(publish.payload.lowerBound >= 0 && publish.payload.upperBound <= bytes.count, "a payload lies within its packet")
        payload = Array(bytes[publish.payload])
    }
    do {
        try packet.write(to: &output, payload: payload.span.bytes)
        let written = output.toArray()
        guard case .complete(var again, let consumed) = try MQTTPacket.parse(written.span.bytes) else {
            return check(false, "a packet that was written is whole")
        }
        check(consumed == written.count, "a packet ends where it was written to end")
        if case .publish(var publish) = again, case .publish(let first) = packet {
            check(Array(written[publish.payload]) == payload, "the payload is the same")
            publish.payload = first.payload
            again = .publish(publish)
        }
        check(again == packet, "what was read and written is read the same")
    } catch {
        check(false, "a packet that was read can be written: \(error)")
    }
}

private func fuzzNames(_ packet: MQTTPacket) {
    switch packet {
    case .publish(let publish): fuzzTopic(publish.topic)
    case .subscribe(_, let subscriptions): for subscription in subscriptions { fuzzFilter(subscription.filter) }
    case .connect(let connect): if let name = connect.userName { _ = MQTTUserName(name, clientID: connect.clientID)?.query }
    default: break
    }
}

private func fuzzTopic(_ topic: String) {
    for client in clients {
        guard case .streamAnswer(let answer?)? = try? HubTopic.classify(topic, from: client), let written = try? answer.topic() else {
            continue
        }
        check((try? HubTopic.classify(written, from: client)) == .streamAnswer(answer), "an answer is read as it is written")
    }
    if let request = try? StreamRequest(topic: topic), let written = try? request.topic() {
        check((try? StreamRequest(topic: written)) == request, "a request is read as it is written")
    }
}

private func fuzzFilter(_ text: String) {
    for client in clients {
        guard let filter = HubFilter(text, from: client) else { continue }
        check(HubFilter(filter.text(for: client), from: client) == filter, "a filter is known as it is written")
    }
}
