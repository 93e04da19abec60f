import Registry
import Store
import Testing
import Wire

@Suite struct QuotaTests {
    let hub: Hub

    init() throws {
        hub = try Hub()
        try hub.put(id("press"))
    }

    private func quota(_ change: (inout Quota) -> Void) -> Quota {
        var quota = Quota()
        change(&quota)
        return quota
    }

    @Test func isKeptAndLogged() throws {
        #expect(try hub.registry.quota(of: "press").isUsual)
        let before = try hub.registry.store.lastSequence()
        let wanted = quota {
            $0[.rate] = .most(1_000_000)
            $0[.streamRate] = Quota.Limit.none
            $0[.streams] = .most(4)
        }
        try hub.registry.perform(.putQuota(device: "press", wanted))
        #expect(try hub.registry.quota(of: "press") == wanted)
        #expect(try hub.registry.quotas().map(\.device) == ["press"])
        #expect(try hub.changes(after: before).map(\.kind) == [.quotaUpdated])
        #expect(try hub.changes(after: before).map(\.device) == ["press"])
    }

    @Test func aQuotaThatSaysNothingIsForgotten() throws {
        try hub.registry.perform(.putQuota(device: "press", quota { $0[.streams] = .most(4) }))
        try hub.registry.perform(.putQuota(device: "press", Quota()))
        #expect(try hub.registry.quotas().isEmpty)
    }

    @Test func goesWithItsDevice() throws {
        try hub.registry.perform(.putQuota(device: "press", quota { $0[.streams] = .most(4) }))
        try hub.delete(id("press"))
        #expect(try hub.registry.quotas().isEmpty)
        try hub.put(id("press"))
        #expect(try hub.registry.quota(of: "press").isUsual)
    }

    @Test func aDeviceThatIsNotThereHasNone() {
        #expect(throws: RegistryError.deviceNotFound("lathe")) { try hub.registry.quota(of: "lathe") }
        #expect(throws: RegistryError.deviceNotFound("lathe")) { try hub.registry.perform(.putQuota(device: "lathe", Quota())) }
    }

    @Test func readsWhatItWrites() throws {
        let wanted = quota {
            $0[.rate] = .most(1)
            $0[.newStreamsPerSecond] = .most(1_000_000)
            $0[.streams] = Quota.Limit.none
        }
        let document = wanted.document(of: "press")
        #expect(document["streamRate"]?.isNull == true)
        #expect(document["streams"]?.string == "none")
        #expect(try Quota(json: document) == wanted)
    }

    @Test(arguments: [
        "[]", #"{"rate":0}"#, #"{"rate":-1}"#, #"{"rate":1.5}"#, #"{"rate":"1MB/s"}"#, #"{"streams":1000001}"#, #"{"streamRate":true}"#,
        #"{"newStreamsPerSecond":0}"#, #"{"rate":1000000000001}"#,
    ])
    func refusesWhatIsNoQuota(text: String) throws {
        let json = try JSONValue.parse(Array(text.utf8))
        #expect(throws: RegistryError.self) { try Quota(json: json) }
    }

    @Test func theLimitThatHolds() {
        #expect(Quota.Limit.usual.most(usually: 5) == 5)
        #expect(Quota.Limit.usual.most(usually: nil) == nil)
        #expect(Quota.Limit.none.most(usually: 5) == nil)
        #expect(Quota.Limit.most(7).most(usually: 5) == 7)
    }
}
