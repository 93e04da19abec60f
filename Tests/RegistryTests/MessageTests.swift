import Registry
import Store
import Testing
import Wire

@Suite struct MessageTests {
    let hub: Hub

    init() throws {
        hub = try Hub()
        try hub.put(id("d"))
        try hub.put(id("e"))
    }

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(seconds: hub.now.seconds + seconds) }

    @discardableResult
    private func send(_ body: String, to device: String = "d", _ properties: [(String, String)] = [], at seconds: Int64 = 0) throws
        -> UInt64
    {
        let bag = PropertyBag(properties.map { .init($0.0, $0.1) })
        let message = try CloudMessage(to: device, properties: bag, body: Array(body.utf8))
        guard case .queued(let number) = try hub.registry.perform(.enqueue(message, device: device), now: at(seconds)) else { return 0 }
        return number
    }

    private func bodies(_ device: String = "d", at seconds: Int64 = 0) throws -> [String] {
        try hub.registry.messages(of: device, now: at(seconds)).map { String(decoding: $0.message.body, as: UTF8.self) }
    }

    private func settle(_ message: UInt64, _ settlement: MessageSettlement) throws -> Bool {
        guard case .settled(let wasThere) = try hub.registry.perform(.settle(message: message, device: "d", settlement), now: at(1)) else {
            return false
        }
        return wasThere
    }

    private func outcomes() throws -> [String] {
        try hub.registry.feedback(limit: 100) { _ in true }.compactMap { $0.json["statusCode"]?.string }
    }

    @Test func keepsTheOrderOfEachDevice() throws {
        for number in 0..<20 { try send("\(number)", to: number % 2 == 0 ? "d" : "e") }
        #expect(try bodies() == stride(from: 0, to: 20, by: 2).map(String.init))
        #expect(try hub.registry.messageCount(of: "e") == 10)
    }

    @Test func aCompletedMessageIsGoneAndSettledOnce() throws {
        let first = try send("a"), second = try send("b")
        #expect(try settle(first, .complete) && !settle(first, .complete))
        #expect(try bodies() == ["b"])
        #expect(try settle(second, .reject) && bodies().isEmpty)
    }

    @Test func anAbandonedMessageComesBackTenTimes() throws {
        let number = try send("a", [("iothub-ack", "full")])
        for count in 1..<MessageLimits().deliveries {
            #expect(try settle(number, .abandon))
            #expect(try hub.registry.messages(of: "d", now: at(0)).first?.deliveryCount == count)
        }
        #expect(try settle(number, .abandon) && bodies().isEmpty)
        #expect(try outcomes() == ["DeliveryCountExceeded"])
    }

    @Test func timeRunsOut() throws {
        try send("usual")
        try send("short", [("$.exp", at(10).description), ("iothub-ack", "negative")])
        try send("longest", [("$.exp", at(10 * 86400).description)])
        #expect(try bodies(at: 10) == ["usual", "longest"])
        #expect(try bodies(at: 3600) == ["longest"] && bodies(at: 2 * 86400).isEmpty)
        #expect(try hub.registry.nextExpiry() == at(10))
        guard case .removed(let count) = try hub.registry.perform(.expireMessages(limit: 10), now: at(10)) else { return }
        #expect(count == 1)
        #expect(try outcomes() == ["Expired"] && hub.registry.nextExpiry() == at(3600))
    }

    @Test func aFullQueueTakesNoMoreUntilSomethingIsOver() throws {
        for number in 0..<MessageLimits().queue { try send("\(number)", number == 7 ? [("$.exp", at(5).description)] : []) }
        #expect(throws: RegistryError.queueFull(device: "d")) { try send("more") }
        try send("other", to: "e")
        try send("more", at: 6)
        #expect(try hub.registry.messageCount(of: "d") == MessageLimits().queue)
        guard case .removed(let count) = try hub.registry.perform(.purge(device: "d"), now: at(7)) else { return }
        #expect(count == MessageLimits().queue)
        #expect(try bodies("e") == ["other"])
    }

    @Test func aHubMayAllowLess() throws {
        var limits = MessageLimits()
        (limits.queue, limits.deliveries, limits.seconds, limits.feedbackSeconds) = (2, 1, 60, 100)
        try hub.registry.perform(.setHubFacts(HubFacts(names: ["h"], httpsPort: 443, messages: limits)))
        #expect(try hub.registry.hubFacts()?.messages == limits)
        let number = try send("a", [("iothub-ack", "full")])
        try send("b")
        #expect(throws: RegistryError.queueFull(device: "d")) { try send("c") }
        #expect(try settle(number, .abandon) && bodies(at: 59) == ["b"] && bodies(at: 60).isEmpty)
        #expect(try hub.registry.feedback(limit: 9, now: at(101)) { _ in true }.count == 1)
        #expect(try hub.registry.feedback(limit: 9, now: at(102)) { _ in true }.isEmpty)
        #expect(HubFacts(json: ["names": [], "httpsPort": 443, "messages": ["queue": 0, "deliveries": "x"]])?.messages == MessageLimits())
    }

    @Test(arguments: [("none", [], []), ("positive", ["Success"], []), ("negative", [], ["Rejected"]), ("full", ["Success"], ["Rejected"])])
    func feedbackIsKeptAsWanted(wish: String, good: [String], bad: [String]) throws {
        _ = try settle(try send("a", [("iothub-ack", wish)]), .complete)
        #expect(try outcomes() == good)
        _ = try settle(try send("b", [("iothub-ack", wish)]), .reject)
        #expect(try outcomes() == good + bad)
    }

    @Test func feedbackIsReadOnce() throws {
        for body in ["a", "b"] { _ = try settle(try send(body, [("iothub-ack", "full"), ("$.mid", body)]), .complete) }
        let all = try hub.registry.feedback(limit: 10) { _ in true }
        #expect(all.compactMap { $0.json["originalMessageId"]?.string } == ["a", "b"])
        #expect(try hub.registry.feedback(limit: 10) { $0 != all[0].sequence }.map(\.sequence) == [all[1].sequence])
        try hub.registry.perform(.removeFeedback([all[0].sequence]))
        #expect(try hub.registry.feedback(limit: 10) { _ in true }.map(\.sequence) == [all[1].sequence])
    }

    @Test func aDeletedDeviceLeavesNothingBehind() throws {
        try send("a")
        try hub.registry.perform(.deleteIdentity(id("d"), .any))
        try hub.put(id("d"))
        #expect(try bodies().isEmpty && hub.registry.nextExpiry() == nil)
    }

    @Test func systemPropertiesComeFirstAndTheHubSaysWhereItGoes() throws {
        try send("x", [("b", "1"), ("$.to", "/elsewhere"), ("$.mid", "m"), ("iothub-ack", "none"), ("a", "2")])
        let keys = try hub.registry.messages(of: "d", now: at(0)).first?.message.properties.properties.map(\.key)
        #expect(keys == ["$.to", "$.mid", "b", "a"])
        #expect(try hub.registry.messages(of: "d", now: at(0)).first?.message.properties[.to] == "/devices/d/messages/devicebound")
    }
}
