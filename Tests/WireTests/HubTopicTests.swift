import Testing

@testable import Wire

@Suite struct HubTopicTests {
    static func client(_ id: String) throws -> ClientIdentity { try #require(ClientIdentity(clientID: id)) }

    static let events: [(String, String, [PropertyBag.Property]?)] = [
        ("dev1", "devices/dev1/messages/events", []),
        ("dev1", "devices/dev1/messages/events/", []),
        ("dev1", "devices/dev1/messages/events/?", []),
        ("dev1", "devices/dev1/messages/events/a=b", [.init("a", "b")]),
        ("dev1", "devices/dev1/messages/events/?a=b/", [.init("a", "b")]),
        ("dev1", "devices/dev1/messages/eventsa=b", nil),
        ("dev1", "devices/dev2/messages/events/", nil),
        ("dev1", "devices/DEV1/messages/events/", nil),
        ("dev1", "devices/dev1/modules/m/messages/events/", nil),
        ("dev1/m", "devices/dev1/modules/m/messages/events/x=1", [.init("x", "1")]),
        ("dev1/m", "devices/dev1/messages/events/", nil),
        ("a+#", "devices/a+#/messages/events/", []),
        ("a+#", "devices/ab/messages/events/", nil),
        ("a%2Fb", "devices/a/b/messages/events/", nil),
        ("dev1", "devices/dev1/messages/devicebound/", nil),
        ("dev1", "$iothub/twin/res/200/?$rid=1", nil),
        ("dev1", "$iothub/twin/GET", nil),
        ("dev1", "", nil),
        ("dev1", "#", nil),
    ]

    @Test(arguments: events) func takesTelemetryUnderTheClientsOwnNameOnly(
        id: String, topic: String, properties: [PropertyBag.Property]?
    ) throws {
        let client = try Self.client(id)
        if let properties {
            #expect(try HubTopic.classify(topic, from: client) == .telemetry(PropertyBag(properties)))
        } else {
            #expect(throws: HubTopicError.unknown) { try HubTopic.classify(topic, from: client) }
        }
    }

    static let operations: [(String, HubTopic)] = [
        ("$iothub/twin/GET/?$rid=1", .twinGet(rid: "1")),
        ("$iothub/twin/GET/?$rid=a%2fB", .twinGet(rid: "a%2fB")),
        ("$iothub/twin/GET/$rid=1", .twinGet(rid: "1")),
        ("$iothub/twin/GET/", .twinGet(rid: "")),
        ("$iothub/twin/PATCH/properties/reported/?$rid=2", .twinPatch(rid: "2", version: nil)),
        ("$iothub/twin/PATCH/properties/reported/?$rid=2&$version=7", .twinPatch(rid: "2", version: 7)),
        ("$iothub/twin/PATCH/properties/reported/?$version=7&$rid=2", .twinPatch(rid: "2", version: 7)),
        ("$iothub/methods/res/200/?$rid=9", .methodResponse(status: 200, rid: "9")),
        ("$iothub/methods/res/-5/?$rid=9", .methodResponse(status: -5, rid: "9")),
        ("$iothub/streams/res/200/?$rid=1", .streamAnswer(StreamAnswer(status: 200, rid: "1"))),
        ("$iothub/streams/res/400/$rid=%31", .streamAnswer(StreamAnswer(status: 400, rid: "1"))),
        (
            "$iothub/streams/res/400/?$rid=1&$reason=no%20port&x=%zz",
            .streamAnswer(StreamAnswer(status: 400, rid: "1", fields: [TopicField("$reason", "no port")]))
        ),
        ("$iothub/streams/res/abc/?$rid=1", .streamAnswer(nil)),
        ("$iothub/streams/res/200/", .streamAnswer(nil)),
        ("$iothub/streams/res/", .streamAnswer(nil)),
    ]

    @Test(arguments: operations) func tellsTheOperationsApart(topic: String, expected: HubTopic) throws {
        for id in ["dev1", "dev1/mod"] {
            let client = try Self.client(id)
            #expect(try HubTopic.classify(topic, from: client) == expected)
        }
    }

    @Test func namesWhatIsMalformed() throws {
        let client = try Self.client("d")
        #expect(throws: HubTopicError.malformedStatus) { try HubTopic.classify("$iothub/methods/res/ok/?$rid=1", from: client) }
        #expect(throws: HubTopicError.malformedStatus) { try HubTopic.classify("$iothub/methods/res/99999999999999999999/", from: client) }
        #expect(throws: HubTopicError.malformedProperties) { try HubTopic.classify("devices/d/messages/events/a=%f", from: client) }
        #expect(throws: HubTopicError.malformedVersion(rid: "2")) {
            try HubTopic.classify("$iothub/twin/PATCH/properties/reported/?$rid=2&$version=x", from: client)
        }
    }

    static let filters: [(String, String, HubFilter?)] = [
        ("d", "devices/d/messages/devicebound/#", .devicebound),
        ("d", "devices/e/messages/devicebound/#", nil),
        ("d", "devices/+/messages/devicebound/#", nil),
        ("+", "devices/+/messages/devicebound/#", .devicebound),
        ("d/m", "devices/d/messages/devicebound/#", nil),
        ("d/m", "devices/d/modules/m/inputs/#", .moduleInputs),
        ("d/m", "devices/d/modules/m/#", .moduleInputs),
        ("d/m", "devices/d/modules/n/#", nil),
        ("d", "devices/d/#", nil),
        ("d", "$iothub/twin/res/#", .twinResults),
        ("d", "$iothub/twin/PATCH/properties/desired/#", .desiredProperties),
        ("d", "$iothub/methods/POST/#", .methods),
        ("d", "$iothub/streams/POST/#", .streamRequests),
        ("d", "$iothub/streams/res/#", .streamAnswers),
        ("d", "$iothub/#", nil),
        ("d", "#", nil),
        ("d", "+", nil),
        ("d", "", nil),
    ]

    @Test(arguments: filters) func grantsTheFiltersOfTheMapOnly(id: String, text: String, filter: HubFilter?) throws {
        let client = try Self.client(id)
        #expect(HubFilter(text, from: client) == filter)
        if let filter { #expect(HubFilter(filter.text(for: client), from: client) == filter) }
    }

    static let publications: [(HubPublication, String)] = [
        (.twinResult(status: 200, rid: "a%2F", version: nil), "$iothub/twin/res/200/?$rid=a%2F"),
        (.twinResult(status: 204, rid: "2", version: 8), "$iothub/twin/res/204/?$rid=2&$version=8"),
        (.desiredProperties(version: 4), "$iothub/twin/PATCH/properties/desired/?$version=4"),
        (.method(name: "re boot", rid: "1"), "$iothub/methods/POST/re%20boot/?$rid=1"),
        (.devicebound(PropertyBag([.init("$.mid", "m 1"), .init("n", nil)])), "devices/d/messages/devicebound/%24.mid=m%201&n"),
        (.moduleInput(name: "in", PropertyBag([.init("k", "")])), "devices/d/inputs/in/k="),
    ]

    @Test(arguments: publications) func spellsWhatTheHubPublishes(publication: HubPublication, topic: String) throws {
        #expect(publication.topic(for: try Self.client("d")) == topic)
    }

    static let names: [(String, String, String?)] = [
        ("hub.test/dev1/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%28x%29", "dev1", "2019-10-01"),
        ("hub.test/dev1/api-version=2016-11-14&DeviceClientType=c%20sdk", "dev1", "2016-11-14"),
        ("hub.test/dev1/mod1/?api-version=2020-09-30", "dev1/mod1", "2020-09-30"),
        ("hub.test/dev1/mod1/?api-version=2020-09-30", "dev1", nil),
        ("hub.test/dev1/?api-version=2020-09-30", "dev1/mod1", nil),
        ("hub.test/dev12/?api-version=2020-09-30", "dev1", nil),
        ("hub.test/dev1?/?api-version=1", "dev1", nil),
        ("hub.test/dev1?/?api-version=1", "dev1?", "1"),
        ("hub.test/a=b/?api-version=1", "a=b", "1"),
        ("hub.test/Dev1/?api-version=1", "dev1", nil),
        ("/dev1/?api-version=1", "dev1", nil),
        ("dev1", "dev1", nil),
        ("", "dev1", nil),
    ]

    @Test(arguments: names) func matchesTheUserNameAgainstTheClientID(text: String, clientID: String, version: String?) {
        #expect(MQTTUserName(text, clientID: clientID)?.apiVersion == version)
        if version == nil { #expect(MQTTUserName(text, clientID: clientID) == nil) }
    }

    @Test(arguments: ["h/d", "h/d/", "h/d/?"]) func takesAUserNameWithoutAQuery(text: String) throws {
        let name = try #require(MQTTUserName(text, clientID: "d"))
        #expect(name.host == "h")
        #expect(name.query.isEmpty)
    }

    @Test func readsTheUserNameThatItMakes() throws {
        let client = try Self.client("a$/m=")
        let text = MQTTUserName.make(
            host: "h", client: client, apiVersion: "2021-04-12", clientType: "iotstream/1 (x)", modelID: "dtmi:a;1")
        let name = try #require(MQTTUserName(text, clientID: client.clientID))
        #expect(name.query["DeviceClientType"] == "iotstream/1 (x)")
        #expect(name.modelID == "dtmi:a;1")
    }
}
