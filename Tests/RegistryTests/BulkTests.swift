import Bytes
import Registry
import Store
import Testing
import Wire

@Suite struct BulkTests {
    let hub: Hub

    init() throws { hub = try Hub() }

    private func bulk(_ body: String) throws -> BulkReport {
        let entries = try BulkEntry.parse(body: JSONValue.parse(body))
        return try #require(try hub.registry.perform(.bulk(entries), now: hub.now).bulk)
    }

    /// importMode, whether the device exists, which etag is given, and the refusal.
    @Test(
        arguments: [
            ("createOrUpdate", false, nil, nil), ("createOrUpdate", true, nil, nil), ("create", false, nil, nil),
            ("create", true, nil, "DeviceAlreadyExists"), ("update", false, nil, "DeviceNotFound"), ("update", true, nil, nil),
            ("updateIfMatchETag", true, true, nil), ("updateIfMatchETag", true, false, "PreconditionFailed"),
            ("updateIfMatchETag", true, nil, "ArgumentNull"), ("createOrUpdateIfMatchETag", false, nil, nil),
            ("createOrUpdateIfMatchETag", true, true, nil), ("createOrUpdateIfMatchETag", true, false, "PreconditionFailed"),
            ("delete", true, nil, nil), ("Delete", false, nil, "DeviceNotFound"), ("deleteIfMatchETag", true, true, nil),
            ("deleteIfMatchETag", true, false, "PreconditionFailed"), ("updateTwin", true, nil, nil),
            ("updateTwin", false, nil, "DeviceNotFound"), ("updateTwinIfMatchETag", true, false, "PreconditionFailed"),
        ] as [(String, Bool, Bool?, String?)])
    func followsTheMode(mode: String, exists: Bool, etag: Bool?, refusal: String?) throws {
        let real = exists ? try hub.put(id("d1")).etag : ""
        let given = etag.map { $0 ? real : "b3RoZXI=" } ?? ""
        let report = try bulk(
            #"[{"id":"d1","moduleId":"","importMode":"\#(mode)","eTag":"\#(given)","twinETag":"\#(given)","tags":{"a":1}}]"#)
        #expect(report.failures.first?.error.name == refusal)
        #expect(report.isSuccessful == (refusal == nil))
    }

    @Test func keepsTheGoodEntriesAndReportsTheBad() throws {
        try hub.put(id("d2"))
        let report = try bulk(#"[{"id":"d1","importMode":"create"},{"id":"d2","importMode":"create"},{"id":"d1","moduleId":"m"}]"#)
        #expect(report.succeeded == 2)
        #expect(report.json["isSuccessful"] == false)
        #expect(report.json["errors"]?.array?.count == 1)
        #expect(
            report.json["errors"]?[0] == [
                "deviceId": "d2", "moduleId": "", "errorCode": "DeviceAlreadyExists", "errorStatus": "device d2 already registered",
                "operation": "create",
            ])
        #expect(try hub.registry.identity(id("d1", "m")).name.moduleID == "m")
    }

    @Test func refusesTheWholeOfABadRequest() throws {
        let many = "[" + (0...100).map { #"{"id":"d\#($0)"}"# }.joined(separator: ",") + "]"
        for (body, code) in [
            ("{}", 400004), ("[]", 400004), (#"[{"id":"d1"},{"id":"d1"}]"#, 400011), (#"[{"id":"bad id"}]"#, 400004),
            (#"[{"importMode":"create"}]"#, 400005), (#"[{"id":"d","importMode":"fly"}]"#, 400004), (many, 413002), ("[1]", 400004),
            (#"[{"id":"d","tags":[]}]"#, 400004),
        ] {
            do {
                _ = try bulk(body)
                Issue.record("took \(body.prefix(60))")
            } catch let error as RegistryError {
                #expect(error.code == code)
                #expect(error.httpStatus == 400)
            }
        }
        #expect(try hub.registry.statistics().total == 0)
    }

    @Test func startsAndChangesTwins() throws {
        _ = try bulk(
            #"[{"id":"d1","tags":{"plant":"R43","x":null},"properties":{"desired":{"a":{"b":1},"$version":9,"$metadata":{}}}}]"#)
        var twin = try hub.registry.twin(id("d1")).json(live: nil)
        #expect(twin["etag"] == "AAAAAAAAAAE=" && twin["version"] == 2)
        #expect(twin["tags"] == ["plant": "R43"])
        #expect(twin["properties"]?["desired"]?["$version"] == 1)
        #expect(twin["properties"]?["desired"]?["$metadata"]?["a"]?["b"]?["$lastUpdated"] == "2023-11-14T22:13:20Z")
        let before = try hub.registry.store.lastSequence()
        _ = try bulk(#"[{"id":"d1","importMode":"updateTwin","twinETag":"*","properties":{"desired":{"a":{"b":null,"c":2}}}}]"#)
        twin = try hub.registry.twin(id("d1")).json(live: nil)
        #expect(twin["etag"] == "AAAAAAAAAAI=" && twin["version"] == 3)
        #expect(twin["properties"]?["desired"]?["a"] == ["c": 2])
        #expect(twin["properties"]?["desired"]?["$version"] == 2)
        #expect(twin["tags"] == ["plant": "R43"])
        #expect(try hub.changes(after: before).map(\.aspects) == [[.desired]])
    }

    @Test func bringsAnExportToAnotherHub() throws {
        try hub.put(id("zedge")) { $0.isEdge = true }
        let leaf = try hub.put(id("leaf")) {
            $0.parent = "zedge"
            $0.status = .disabled
            $0.statusReason = "spare"
        }
        try hub.put(id("leaf", "m")) { $0.managedBy = "me" }
        var lines: [UInt8] = Array("\n".utf8)
        try hub.registry.exportLines { line throws(RegistryError) in lines += line }
        let other = try Hub()
        let report = try other.registry.importLines(lines.span.bytes)
        #expect(report.failures.isEmpty)
        #expect(report.succeeded == 5)
        let copy = try other.registry.identity(id("leaf"))
        #expect(copy.authentication == leaf.authentication)
        #expect(copy.statusReason == "spare" && !copy.isEnabled)
        let edge = try other.registry.identity(id("zedge"))
        #expect(copy.parentScopes == [edge.deviceScope])
        #expect(try other.registry.identity(id("leaf", "m")).managedBy == "me")
    }

    @Test func reportsTheLinesThatItRefuses() throws {
        let text = """
            {"id":"d1"}
            not json

            {"id":"d2","deviceScope":"ms-azure-iot-edge://nobody-1"}
            {"id":"d1","importMode":"create"}
            {"id":"d3"}
            """
        let report = try hub.registry.importLines(Array(text.utf8).span.bytes)
        #expect(report.succeeded == 2)
        #expect(report.failures.map(\.line) == [2, 4, 5])
    }
}
