import Registry
import Store
import Synchronization
import Testing
import Wire

@Suite struct RegistryTests {
    let hub: Hub

    init() throws { hub = try Hub() }

    @Test func keepsSubscriptionsOfASession() throws {
        try hub.put(id("d1"))
        let session = MQTTSession(subscriptions: [
            .init(filter: "$iothub/methods/POST/#", qos: 1), .init(filter: "devices/d1/messages/devicebound/#", qos: 0),
        ])
        #expect(try hub.registry.session(id("d1")) == nil)
        try hub.registry.perform(.setSession(id("d1"), session))
        #expect(try hub.registry.session(id("d1")) == session)
        try hub.registry.perform(.setSession(id("d1"), nil))
        #expect(try hub.registry.session(id("d1")) == nil)
        #expect(throws: RegistryError.deviceNotFound("d2")) { try hub.registry.perform(.setSession(id("d2"), session)) }
    }

    @Test func tellsWhereTheHubIs() throws {
        #expect(try hub.registry.hubFacts() == nil)
        try hub.registry.perform(.setHubFacts(HubFacts(names: ["hub.example", "b"], httpsPort: 8443)))
        #expect(try hub.registry.hubFacts()?.host == HostPort(host: "hub.example", port: 8443))
        #expect(HubFacts(names: ["h"], httpsPort: 443).host == HostPort(host: "h", port: nil))
        #expect(HubFacts(names: [], httpsPort: 443).host == nil)
    }

    @Test func answersCommandsAfterASharedCommit() async throws {
        let registry = hub.registry
        let writer = try GroupWriter(registry.store)
        let codes = await withTaskGroup(of: Int?.self) { group in
            for number in 0..<200 {
                group.addTask {
                    await withCheckedContinuation { waiter in
                        registry.submit(.putIdentity(id("d\(number / 2)"), IdentityRequest(), .absent), to: writer) { result in
                            if case .failure(let error) = result {
                                waiter.resume(returning: error.code)
                            } else {
                                waiter.resume(returning: nil)
                            }
                        }
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        writer.close()
        #expect(codes.filter { $0 == nil }.count == 100)
        #expect(codes.filter { $0 == 409001 }.count == 100)
        #expect(try registry.statistics().total == 100)
    }

    @Test func logsEachCommandOnce() throws {
        let before = try hub.registry.store.lastSequence()
        try hub.put(id("d1"))
        try hub.put(id("d1", "m"))
        try hub.registry.perform(.rotateKey(id("d1"), .swap, .absent))
        #expect(throws: RegistryError.self) { try hub.put(id("d1")) }
        try hub.delete(id("d1", "m"))
        try hub.delete(id("d1"))
        let changes = try hub.changes(after: before)
        #expect(changes.map(\.kind) == [.identityCreated, .identityCreated, .identityUpdated, .identityDeleted, .identityDeleted])
        #expect(changes.map(\.module) == ["", "m", "", "m", ""])
        #expect(changes[2].aspects == .authentication)
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (16769760438539917, "2023-02-21T10:40:43.8539917Z"), (15830208000000000, "2020-03-01T00:00:00Z"),
            (15829344000000000, "2020-02-29T00:00:00Z"), (-1, "1969-12-31T23:59:59.9999999Z"),
            (Timestamp.never.ticks, "0001-01-01T00:00:00Z"),
        ] as [(Int64, String)])
    func writesAndReadsTimes(ticks: Int64, text: String) {
        let time = Timestamp(ticks: ticks)
        #expect(time.description == text)
        #expect(Timestamp(parsing: text) == time)
    }

    @Test(arguments: ["", "2020", "2020-13-01T00:00:00Z", "2020-01-01T24:00:00Z", "2020-01-01 00:00:00Z", "2020-01-01T00:00:00.Z", "x"])
    func refusesBadTimes(text: String) {
        #expect(Timestamp(parsing: text) == nil)
    }

    @Test func readsShortFractions() {
        #expect(Timestamp(parsing: "1970-01-01T00:00:01.5") == Timestamp(ticks: 15_000_000))
    }
}
