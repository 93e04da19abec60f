import Registry
import Testing
import Wire

@Suite struct ConfigurationTests {
    private func make(
        _ id: String, _ content: JSONValue, condition: String = "*", priority: Int64 = 0
    ) throws(RegistryError) -> TwinConfiguration {
        try TwinConfiguration(
            request: ["content": content, "targetCondition": .string(condition), "priority": .integer(priority)], id: id,
            now: Timestamp(seconds: 1_700_000_000))
    }

    private func put(_ hub: Hub, _ configuration: TwinConfiguration, _ condition: IfMatch = .absent) throws -> TwinConfiguration {
        try #require(try hub.registry.perform(.configuration(.put(configuration, condition)), now: hub.now).configuration)
    }

    /// Brings all twins to what the configurations say, as the hub does; tells how many were not.
    @discardableResult private func settle(_ hub: Hub) throws -> Int {
        let set = try hub.registry.configurations()
        var survey = Registry.ConfigurationSurvey(), count = 0
        while survey.next != nil {
            survey.names = []
            try hub.registry.survey(&survey, set, most: 2)
            count += survey.names.count
            try hub.registry.perform(.configuration(.configure(survey.names, set)), now: hub.now)
        }
        try hub.registry.perform(.configuration(.bury(set.removed)), now: hub.now)
        return count
    }

    private func desired(_ hub: Hub, _ name: ClientIdentity) throws -> JSONValue {
        .object(try hub.registry.twin(name).twin.desired.content)
    }

    @Test func readsWhatItWrote() throws {
        let hub = try Hub()
        let made = try put(hub, try make("c", ["deviceContent": ["properties.desired.a.b": 1]], condition: "tags.x = 1", priority: 7))
        #expect(try hub.registry.configuration("c") == made)
        #expect(try hub.registry.configurations().live == [made])
        try hub.registry.perform(.configuration(.measured("c", number: made.number, TwinConfiguration.Results())), now: hub.now)
        #expect(try hub.registry.configuration("c").etag == made.etag)
    }

    @Test func writesOnceAndTakesBackWhatItWrote() throws {
        let hub = try Hub()
        let names = ["a", "b", "c", "d", "e"].map { id($0) }
        for name in names { try hub.put(name) { $0.desired = (["own": 1, "t": ["own": 1]] as JSONValue).object } }
        _ = try put(hub, try make("low", ["deviceContent": ["properties.desired.t.x": 1, "properties.desired.u": ["y": 1]]]))
        #expect(try settle(hub) == 5)
        #expect(try settle(hub) == 0)
        #expect(try desired(hub, names[4]) == ["own": 1, "t": ["own": 1, "x": 1], "u": ["y": 1]])
        #expect(try hub.registry.twin(names[0]).twin.desired.version == 2)
        _ = try put(hub, try make("high", ["deviceContent": ["properties.desired.u.z": 2]], priority: 1))
        #expect(try settle(hub) == 5)
        #expect(try desired(hub, names[0]) == ["own": 1, "t": ["own": 1], "u": ["z": 2]])
        try hub.registry.perform(.configuration(.delete("high", .any)), now: hub.now)
        try hub.registry.perform(.configuration(.delete("low", .any)), now: hub.now)
        // The same name again, before the old one was taken back.
        _ = try put(hub, try make("low", ["deviceContent": ["properties.desired.v": 3]]))
        #expect(try settle(hub) == 5)
        #expect(try desired(hub, names[0]) == ["own": 1, "t": ["own": 1], "v": 3])
        #expect(try hub.registry.configurations().removed.isEmpty)
    }

    @Test func leavesATwinAloneThatHasNoRoomForIt() throws {
        let hub = try Hub()
        let long = JSONValue.string(String(repeating: "x", count: 4000))
        var content = JSONObject()
        for number in 0..<8 { content["properties.desired.k\(number)"] = long }
        try hub.put(id("full")) { $0.desired = (["a": long, "b": "y"] as JSONValue).object }
        _ = try put(hub, try make("large", ["deviceContent": .object(content)]))
        try settle(hub)
        var survey = Registry.ConfigurationSurvey()
        let set = try hub.registry.configurations()
        try hub.registry.survey(&survey, set)
        #expect(survey.targeted == [1: 1] && survey.applied.isEmpty && survey.next == nil)
        let twin = try hub.registry.twin(id("full")).twin
        #expect(twin.desired.version == 1 && twin.configurations == (["large": ["status": "Targeted"]] as JSONValue).object)
    }

    @Test(
        arguments: [
            [:], ["deviceContent": ["properties.reported.a": 1]], ["deviceContent": ["properties.desired.$a": 1]],
            ["deviceContent": ["properties.desired.": 1]], ["modulesContent": ["m/n": ["properties.desired.a": 1]]],
            ["deviceContent": ["properties.desired.a": 1], "modulesContent": ["m": ["properties.desired.a": 1]]],
        ] as [JSONValue])
    func refusesContent(_ content: JSONValue) throws {
        #expect(throws: RegistryError.self) { try make("c", content) }
    }

    @Test(arguments: [("abc-1+%_*!'", true), ("", false), ("A", false), ("a.b", false), ("a b", false)])
    func hasARuleForIDs(_ id: String, _ isGood: Bool) { #expect(TwinConfiguration.isValidID(id) == isGood) }

    @Test func hasRoomForAHundred() throws {
        let hub = try Hub()
        for number in 0..<Registry.mostConfigurations {
            _ = try put(hub, try make("c\(number)", ["deviceContent": ["properties.desired.a": 1]], condition: ""))
        }
        #expect(throws: RegistryError.tooManyConfigurations) {
            try put(hub, try make("more", ["deviceContent": ["properties.desired.a": 1]]))
        }
    }
}
