import Bytes
import Registry
import Store
import Testing
import Wire

@Suite struct TwinTests {
    let hub: Hub

    init() throws {
        hub = try Hub()
        try hub.put(id("d"))
    }

    private func json(_ text: String) throws -> JSONValue { try JSONValue.parse(text) }
    private func object(_ text: String) throws -> JSONObject { try #require(try json(text).object) }
    private func at(_ seconds: Int64) -> Timestamp { Timestamp(seconds: hub.now.seconds + seconds) }

    @discardableResult
    private func patch(_ text: String, _ condition: IfMatch = .absent, at seconds: Int64 = 1) throws -> Twin {
        let change = try TwinChange(patch: json(text))
        return try #require(try hub.registry.perform(.changeTwin(id("d"), change, condition), now: at(seconds)).twin).twin
    }

    @discardableResult
    private func put(_ text: String, _ condition: IfMatch = .absent, at seconds: Int64 = 1) throws -> Twin {
        let change = try TwinChange(replacement: json(text))
        return try #require(try hub.registry.perform(.changeTwin(id("d"), change, condition), now: at(seconds)).twin).twin
    }

    private func report(_ text: String, ifVersion version: Int64? = nil, at seconds: Int64 = 1) throws -> Int64? {
        let patch = try TwinChange.reported(payload: Array(text.utf8).span.bytes)
        guard case .reported(let version) = try hub.registry.perform(.report(id("d"), patch, ifVersion: version), now: at(seconds)) else {
            return nil
        }
        return version
    }

    // MARK: - Documents

    @Test func showsAFreshTwinWhole() throws {
        let identity = try hub.registry.identity(id("d"))
        var live = LiveState()
        live.isConnected = true
        #expect(
            try hub.registry.twin(id("d")).json(live: live) == [
                "deviceId": "d", "etag": "AAAAAAAAAAE=", "deviceEtag": .string(identity.etag), "status": "enabled",
                "statusUpdateTime": "0001-01-01T00:00:00Z", "connectionState": "Connected", "lastActivityTime": "0001-01-01T00:00:00Z",
                "cloudToDeviceMessageCount": 0, "authenticationType": "sas",
                "x509Thumbprint": ["primaryThumbprint": .null, "secondaryThumbprint": .null], "modelId": "", "version": 2,
                "properties": [
                    "desired": ["$metadata": ["$lastUpdated": "2023-11-14T22:13:20Z"], "$version": 1],
                    "reported": ["$metadata": ["$lastUpdated": "2023-11-14T22:13:20Z"], "$version": 1],
                ], "capabilities": ["iotEdge": false],
            ])
        #expect(try hub.registry.twin(id("d")).json(live: nil)["connectionState"] == nil)
    }

    @Test func givesAModuleItsOwnTwinAndItsDevicesStatus() throws {
        try hub.put(id("d", "m"))
        try hub.registry.perform(.setStatus(device: "d", .disabled, reason: "spare"), now: hub.now)
        let document = try hub.registry.twin(id("d", "m")).json(live: nil)
        #expect(document["moduleId"] == "m" && document["status"] == "disabled" && document["capabilities"] == nil)
        #expect(document["deviceEtag"]?.string == (try hub.registry.identity(id("d", "m")).etag))
        let change = try TwinChange(patch: json(#"{"tags":{"a":1}}"#))
        try hub.registry.perform(.changeTwin(id("d", "m"), change, .absent), now: hub.now)
        #expect(try hub.registry.twin(id("d")).twin.tags.isEmpty)
        #expect(throws: RegistryError.moduleNotFound(id("d", "x"))) { try hub.registry.twin(id("d", "x")) }
        #expect(throws: RegistryError.deviceNotFound("x")) { try hub.registry.twin(id("x")) }
    }

    @Test func showsTheDeviceBothSectionsAndNothingElse() throws {
        try patch(#"{"tags":{"t":1},"properties":{"desired":{"a":1}}}"#)
        #expect(try report(#"{"b":2}"#) == 2)
        #expect(
            try hub.registry.deviceTwin(id("d")) == ["desired": ["a": 1, "$version": 2], "reported": ["b": 2, "$version": 2]])
        #expect(throws: RegistryError.deviceNotFound("x")) { try hub.registry.deviceTwin(id("x")) }
    }

    // MARK: - Merging

    /// Before, patch, after.
    @Test(
        arguments: [
            (#"{}"#, #"{"a":1}"#, #"{"a":1}"#), (#"{"a":1}"#, #"{"b":2}"#, #"{"a":1,"b":2}"#), (#"{"a":1}"#, #"{"a":null}"#, #"{}"#),
            (#"{"a":1}"#, #"{"b":null}"#, #"{"a":1}"#), (#"{"a":{"b":1}}"#, #"{"a":{}}"#, #"{"a":{"b":1}}"#),
            (#"{"a":{"b":1}}"#, #"{"a":{"b":null}}"#, #"{"a":{}}"#), (#"{"a":{"b":1}}"#, #"{"a":{"c":2}}"#, #"{"a":{"b":1,"c":2}}"#),
            (#"{"a":1}"#, #"{"a":{"b":1,"c":null}}"#, #"{"a":{"b":1}}"#), (#"{"a":{"b":1}}"#, #"{"a":5}"#, #"{"a":5}"#),
            (#"{"a":[1,2,3]}"#, #"{"a":[4]}"#, #"{"a":[4]}"#), (#"{"a":[1]}"#, #"{"a":{"b":1}}"#, #"{"a":{"b":1}}"#),
            (#"{"a":{"b":{"c":1}}}"#, #"{"a":{"b":{"c":null,"d":{"e":null}}}}"#, #"{"a":{"b":{"d":{}}}}"#),
            (#"{"a":1}"#, #"{}"#, #"{"a":1}"#), (#"{"a":1}"#, #"{"$version":99,"$metadata":{"x":1},"b":2}"#, #"{"a":1,"b":2}"#),
            (#"{"a":{"b":1}}"#, #"{"a":null}"#, #"{}"#), (#"{}"#, #"{"a":{"b":{"c":null}}}"#, #"{"a":{"b":{}}}"#),
        ])
    func mergesInEverySection(before: String, change: String, after: String) throws {
        let wanted = try object(after)
        try patch(#"{"tags":\#(before),"properties":{"desired":\#(before)}}"#)
        let twin = try patch(#"{"tags":\#(change),"properties":{"desired":\#(change)}}"#)
        #expect(twin.tags == wanted && twin.desired.content == wanted)
        _ = try report(before)
        _ = try report(change)
        #expect(try hub.registry.twin(id("d")).twin.reported.content == wanted)
    }

    @Test func countsVersionsAndEtags() throws {
        func state(_ twin: Twin) -> [String] { [twin.etag, "\(twin.version)", "\(twin.desired.version)", "\(twin.reported.version)"] }
        #expect(state(try patch(#"{"tags":{"a":1}}"#)) == ["AAAAAAAAAAI=", "3", "1", "1"])
        #expect(state(try patch(#"{"tags":{"a":1},"properties":{"desired":{"a":1}}}"#)) == ["AAAAAAAAAAM=", "4", "2", "1"])
        #expect(state(try patch(#"{"properties":{"desired":{}}}"#)) == ["AAAAAAAAAAQ=", "5", "3", "1"])
        #expect(try report("{}") == 2)
        #expect(state(try hub.registry.twin(id("d")).twin) == ["AAAAAAAAAAQ=", "6", "3", "2"])
        #expect(state(try patch(#"{"properties":{"reported":{"x":1}},"status":"disabled"}"#)) == ["AAAAAAAAAAQ=", "6", "3", "2"])
        #expect(state(try put("{}")) == ["AAAAAAAAAAU=", "7", "4", "2"])
    }

    @Test func stampsWhatWasWritten() throws {
        try patch(#"{"properties":{"desired":{"a":{"b":1,"c":[{"x":1}]},"d":1}}}"#, at: 1)
        let twin = try patch(#"{"properties":{"desired":{"a":{"b":null,"c":[2]}}}}"#, at: 2)
        let first: JSONValue = ["$lastUpdated": "2023-11-14T22:13:21Z", "$lastUpdatedVersion": 2]
        let second: JSONValue = ["$lastUpdated": "2023-11-14T22:13:22Z", "$lastUpdatedVersion": 3]
        var a = second, all = second
        a["c"] = second
        all["a"] = a
        all["d"] = first
        #expect(JSONValue.object(twin.desired.metadata) == all)
        _ = try report(#"{"a":{"b":1}}"#, at: 3)
        let time: JSONValue = ["$lastUpdated": "2023-11-14T22:13:23Z"]
        var inner = time, outer = time
        inner["b"] = time
        outer["a"] = inner
        #expect(JSONValue.object(try hub.registry.twin(id("d")).twin.reported.metadata) == outer)
    }

    @Test func replacesAsAWhole() throws {
        try patch(#"{"tags":{"a":1},"properties":{"desired":{"a":{"b":1}}}}"#)
        var twin = try put(#"{"properties":{"desired":{"a":{"c":1,"d":null},"$version":7,"$metadata":{"a":1}}}}"#, at: 5)
        #expect(twin.tags.isEmpty)
        #expect(JSONValue.object(twin.desired.content) == ["a": ["c": 1]])
        #expect(twin.desired.metadata["$lastUpdated"] == "2023-11-14T22:13:25Z")
        #expect(twin.desired.metadata["a"]?["b"] == nil)
        twin = try put(#"{"tags":null}"#)
        #expect(twin.desired.content.isEmpty && twin.desired.version == 4)
        try patch(#"{"tags":{"a":1},"properties":{"desired":{"a":1}}}"#)
        twin = try patch(#"{"tags":null,"properties":{"desired":null}}"#)
        #expect(twin.tags.isEmpty && twin.desired.content.isEmpty && twin.desired.version == 6)
    }

    @Test func writesUnderAConditionOnly() throws {
        let first = try patch(#"{"tags":{"a":1}}"#, .any)
        try patch(#"{"tags":{"a":2}}"#, .etag(first.etag))
        #expect(throws: RegistryError.preconditionFailed) { try patch(#"{"tags":{"a":3}}"#, .etag(first.etag)) }
        #expect(throws: RegistryError.preconditionFailed) { try put(#"{}"#, .etag(first.etag)) }
        #expect(try report(#"{"a":1}"#, ifVersion: 1) == 2)
        #expect(throws: RegistryError.preconditionFailed) { try report(#"{"a":2}"#, ifVersion: 1) }
        #expect(try hub.registry.twin(id("d")).twin.reported.content["a"] == 1)
    }

    // MARK: - Notices

    @Test func tellsTheDeviceWhatChanged() throws {
        let before = try hub.registry.store.lastSequence()
        try patch(#"{"properties":{"desired":{"a":1,"b":{"c":null}}}}"#)
        try patch(#"{"tags":{"x":1}}"#)
        try patch(#"{"properties":{"desired":{"a":null}}}"#)
        try put(#"{"properties":{"desired":{"z":1}}}"#)
        try patch(#"{"properties":{"desired":null}}"#)
        _ = try report(#"{"a":1}"#)
        let changes = try hub.changes(after: before)
        #expect(changes.map(\.aspects) == [[.desired], [.tags], [.desired], [.tags, .desired], [.desired]])
        let notices = try changes.map { try hub.registry.desiredNotice(of: $0) }
        #expect(notices.map { $0?.version } == [2, nil, 3, 4, 5])
        #expect(
            notices.map { $0.map { String(decoding: $0.payload, as: UTF8.self) } } == [
                #"{"a":1,"b":{"c":null},"$version":2}"#, nil, #"{"a":null,"$version":3}"#, #"{"z":1,"$version":4}"#,
                #"{"z":null,"$version":5}"#,
            ])
        var old = changes[0]
        old.aspects = []
        #expect(try hub.registry.desiredNotice(of: old) == nil)
    }

    @Test func keepsNoticesForAWhile() throws {
        let before = try hub.registry.store.lastSequence()
        let change = try TwinChange(patch: json(#"{"properties":{"desired":{"a":1}}}"#))
        try hub.registry.store.write { transaction throws(RegistryError) in
            for _ in 0...ChangeLog.noticesKept { _ = try Registry.apply(.changeTwin(id("d"), change, .any), in: transaction, now: hub.now) }
        }
        let changes = try hub.registry.store.changes(after: before, limit: 10_000).changes
        #expect(changes.count == ChangeLog.noticesKept + 1)
        #expect(try hub.registry.desiredNotice(of: changes[0]) == nil)
        #expect(try hub.registry.desiredNotice(of: changes[2])?.version == 4)
    }

    // MARK: - Limits

    private static func nested(_ levels: Int) -> String {
        String(repeating: #"{"k":"#, count: levels) + "1" + String(repeating: "}", count: levels)
    }

    /// A section, and whether it is in order.
    private static let sections: [(String, Bool)] = [
        (#"{"\#(String(repeating: "k", count: 1024))":1}"#, true), (#"{"\#(String(repeating: "k", count: 1025))":1}"#, false),
        (#"{"":1}"#, false), (#"{"a.b":1}"#, false), (#"{"a b":1}"#, false), (#"{"$a":1}"#, false), (#"{"a$":1}"#, false),
        (#"{"a\u0001":1}"#, false), (#"{"a\u0085":1}"#, false), (#"{"ä-_/\\~":1}"#, true), (#"{"x":{"a.b":null}}"#, false),
        (#"{"x":{"$version":1}}"#, false), (#"{"x":[{"a b":1}]}"#, false),
        (#"{"a":4503599627370495,"b":-4503599627370496}"#, true), (#"{"a":4503599627370496}"#, false), (#"{"a":-4503599627370497}"#, false),
        (#"{"a":1.5e300}"#, true), (#"{"a":"\#(String(repeating: "é", count: 2048))"}"#, true),
        (#"{"a":"\#(String(repeating: "x", count: 4097))"}"#, false), (#"{"a":[1,null]}"#, false), (#"{"a":[{"b":null}]}"#, false),
        (#"{"a":{"b":null}}"#, true), (nested(11), true), (nested(12), false), (#"{"a":[[[[[[[[[[1]]]]]]]]]]}"#, true),
        (#"{"a":[[[[[[[[[[[1]]]]]]]]]]]}"#, false), (#"{"a":[[[[[[[[[[{}]]]]]]]]]]}"#, false), ("[]", false), ("5", false),
    ]

    @Test(arguments: sections)
    func keepsToTheRulesOfKeysAndValues(section: String, isGood: Bool) throws {
        let body = #"{"tags":\#(section),"properties":{"desired":\#(section)}}"#
        if isGood {
            try patch(body)
        } else {
            let error = #expect(throws: RegistryError.self) { try patch(body) }
            #expect(error?.code == 400004)
        }
        if isGood {
            #expect(try report(section) == 2)
        } else {
            #expect(throws: RegistryError.self) { try report(section) }
            #expect(try hub.registry.twin(id("d")).json(live: nil)["version"] == 2)
        }
    }

    /// Members of so many bytes as the limits count.
    private static func filler(_ bytes: Int, unit: Int = 100) -> String {
        let count = bytes / unit, rest = bytes % unit
        var members = (0..<count).map { number in
            let key = "k\(number)"
            return #""\#(key)":"\#(String(repeating: "x", count: unit - key.utf8.count))""#
        }
        if rest > 0 { members.append(#""\#(String(repeating: "r", count: rest))":{}"#) }
        return "{\(members.joined(separator: ","))}"
    }

    @Test func limitsTheSizeOfEachSection() throws {
        try patch(#"{"tags":\#(Self.filler(8192))}"#)
        #expect(throws: RegistryError.self) { try patch(#"{"tags":{"y":{}}}"#) }
        try patch(#"{"tags":{"k0":null,"y":true,"z":1.5,"w":[1,false]}}"#)
        try patch(#"{"properties":{"desired":\#(Self.filler(32768))}}"#)
        #expect(throws: RegistryError.self) { try patch(#"{"properties":{"desired":{"y":{}}}}"#) }
        #expect(try report(Self.filler(32768)) == 2)
        #expect(throws: RegistryError.self) { try report(#"{"y":{}}"#) }
        #expect(throws: RegistryError.self) { try put(#"{"tags":\#(Self.filler(8193))}"#) }
        #expect(throws: RegistryError.self) { try report(#"{"k0":[\#(Array(repeating: "[]", count: 33_000).joined(separator: ","))]}"#) }
        #expect(try report("{}") == 3)
    }

    @Test func takesAMillionKeysWithoutFuss() throws {
        let removals = "{" + (0..<30_000).map { #""k\#($0)":null"# }.joined(separator: ",") + "}"
        #expect(try report(removals) == 2)
        let short = "{" + (0..<4_700).map { #""\#(String($0, radix: 36))":true"# }.joined(separator: ",") + "}"
        #expect(try report(short) == 3)
        #expect(try report(short.split(separator: "true").joined(separator: "null")) == 4)
        #expect(try hub.registry.twin(id("d")).twin.reported.content.isEmpty)
    }

    @Test(arguments: ["", "{", "nul", "[1]", "\u{FEFF}{}", #"{"a":1,"a":2}"#, #"{"a":123456789012345678901234567890}"#, #"{"a":1e999}"#])
    func refusesWhatIsNoPatch(text: String) throws {
        #expect(throws: RegistryError.self) { try report(text) }
        #expect(throws: RegistryError.self) { try TwinChange.reported(payload: [0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D].span.bytes) }
        #expect(throws: RegistryError.self) {
            try TwinChange.reported(payload: Array(String(repeating: "[", count: 100_000).utf8).span.bytes)
        }
    }

    @Test func refusesFirstContentsThatBreakTheRules() throws {
        var request = IdentityRequest()
        request.tags = try object(#"{"a b":1}"#)
        #expect(throws: RegistryError.self) { try hub.registry.perform(.putIdentity(id("e"), request, .absent), now: hub.now) }
        #expect(throws: RegistryError.deviceNotFound("e")) { try hub.registry.identity(id("e")) }
        let entries = try BulkEntry.parse(body: json(#"[{"id":"e","properties":{"desired":{"$x":1}}},{"id":"f","tags":{"a":1}}]"#))
        let report = try #require(try hub.registry.perform(.bulk(entries), now: hub.now).bulk)
        #expect(report.failures.map(\.error.name) == ["ArgumentInvalid"] && report.succeeded == 1)
    }

    @Test func notesTheModelThatADeviceAnnounces() throws {
        try hub.registry.perform(.setModel(id("d"), "dtmi:com:example:Thermostat;1"), now: hub.now)
        #expect(try hub.registry.twin(id("d")).json(live: nil)["modelId"] == "dtmi:com:example:Thermostat;1")
        #expect(try hub.registry.twin(id("d")).twin.version == 2)
        #expect(throws: RegistryError.self) { try hub.registry.perform(.setModel(id("d"), String(repeating: "x", count: 3000))) }
    }

    @Test func goesAwayWithItsIdentity() throws {
        try patch(#"{"tags":{"a":1}}"#)
        try hub.delete(id("d"))
        try hub.put(id("d"))
        #expect(try hub.registry.twin(id("d")).twin.tags.isEmpty)
        #expect(throws: RegistryError.deviceNotFound("x")) {
            try hub.registry.perform(.report(id("x"), JSONObject(), ifVersion: nil), now: hub.now)
        }
    }
}
