import Testing
import Wire

@testable import Enrollments

@Suite struct RegistrationTests {
    private let device = SymmetricKey(base64: Service.key)

    @Test func aKeyOfAGroupIsDerivedAsThePublishedVectorSays() throws {
        let key = try #require(SymmetricKey(base64: Service.key))
        #expect(key.derived(for: "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")?.base64 == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=")
    }

    @Test func aDeviceIsAssignedOnceAndThenStays() throws {
        let service = try Service(), key = try #require(device)
        try service.link("test-hub.example.net")
        try service.put(.individual, "press-07", Service.symmetric())
        let first = try service.register("press-07", key)
        #expect(first.state?["status"] == "assigned")
        #expect(first.state?["substatus"] == "initialAssignment")
        #expect(first.state?["assignedHub"] == "test-hub.example.net")
        #expect(first.json()["status"] == "assigned")
        let second = try service.register("press-07", key)
        #expect(second.plan?.work == .keep)
        #expect(second.state?["substatus"] == "initialAssignment")
        #expect(second.state?["createdDateTimeUtc"] == first.state?["createdDateTimeUtc"])
        #expect(second.state?["etag"] != first.state?["etag"])
        #expect(second.authentication == .null)
    }
}

// MARK: - Assignment

extension RegistrationTests {
    private func counts(_ service: Service, _ ids: [String]) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for id in ids { counts[try #require(try service.enrollments.record(id)).hub, default: 0] += 1 }
        return counts
    }

    @Test func tenThousandDevicesSpreadEvenlyAndEachWhereItsIdSays() throws {
        let hubs = try ["one.example", "two.example"].map { name in
            try LinkedHub(json: [
                "connectionString": .string("HostName=\(name);SharedAccessKeyName=o;SharedAccessKey=\(Service.otherKey)")
            ])
        }
        let candidates = HubCandidates(hubs, names: [], policy: .hashed)
        for format in ["dev-", "SN:2024.", "a"] {
            var counts: [String: Int] = [:], misplaced = 0
            for number in 0..<10_000 {
                let id = "\(format)\(number)"
                let hub = try #require(candidates.chosen(for: id, counts: counts))
                #expect(candidates.preferred(by: id.uppercased()).map(\.key) == candidates.preferred(by: id).map(\.key))
                if hub.key != candidates.preferred(by: id)[0].key { misplaced += 1 }
                counts[hub.key, default: 0] += 1
            }
            #expect(counts.values.allSatisfy { abs($0 - 5000) <= 100 }, "\(counts)")
            #expect(misplaced < 300)
        }
    }

    @Test func weightsCount() throws {
        let hubs = try [("one.example", 3), ("two.example", 1)].map { name, weight in
            try LinkedHub(json: [
                "connectionString": .string("HostName=\(name);SharedAccessKeyName=o;SharedAccessKey=\(Service.otherKey)"),
                "allocationWeight": .integer(weight),
            ])
        }
        let candidates = HubCandidates(hubs, names: [], policy: .hashed)
        let share = (0..<4000).count { candidates.preferred(by: "d\($0)")[0].name == "one.example" }
        #expect(abs(share - 3000) < 150)
    }

    @Test func aHubThatComesTakesFromTheOthersAndMovesNobodyElse() throws {
        let hubs = try ["one.example", "two.example", "three.example"].map { name in
            try LinkedHub(json: ["connectionString": .string("HostName=\(name);SharedAccessKeyName=o;SharedAccessKey=\(Service.otherKey)")])
        }
        let few = HubCandidates(Array(hubs.prefix(2)), names: [], policy: .hashed), all = HubCandidates(hubs, names: [], policy: .hashed)
        for number in 0..<500 {
            let after = all.preferred(by: "d\(number)")[0].name
            #expect(after == "three.example" || after == few.preferred(by: "d\(number)")[0].name)
        }
    }

    @Test func devicesOfAGroupSpreadAndStay() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("one.example", "two.example")
        try service.put(.group, "line", Service.symmetric())
        let ids = (0..<200).map { "dev-\($0)" }
        for id in ids { try service.register(id, try #require(key.derived(for: id))) }
        let before = try counts(service, ids)
        #expect(before.values.allSatisfy { abs($0 - 100) <= 30 } && before.count == 2)
        let hub = try #require(try service.enrollments.record("dev-3")).hub
        #expect(try service.register("dev-3", try #require(key.derived(for: "dev-3"))).plan?.work == .keep)
        #expect(try #require(try service.enrollments.record("dev-3")).hub == hub)
        #expect(try service.enrollments.records(ofGroup: "LINE").page.count == 200)
        let (page, next) = try service.enrollments.records(ofGroup: "line", top: 150)
        #expect(page.count == 150)
        #expect(try service.enrollments.records(ofGroup: "line", from: next).page.count == 50)
        try service.enrollments.perform(.deleteRecord(registrationID: "DEV-3", .any))
        #expect(try service.enrollments.records(ofGroup: "line").page.count == 199)
        #expect(try service.enrollments.record("dev-3") == nil)
    }

    @Test func theNearestHubIsTakenWhereSomebodyKnows() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("one.example", "two.example", "three.example")
        try service.enrollments.perform(.putHub(["name": "two.example", "latencyMilliseconds": 12]))
        try service.enrollments.perform(.putHub(["name": "three.example", "latencyMilliseconds": 40]))
        try service.put(.individual, "d", Service.symmetric(["allocationPolicy": "geoLatency"]))
        #expect(try service.register("d", key).state?["assignedHub"] == "two.example")
        try service.enrollments.perform(.setAllocation(.geoLatency))
        try service.put(.individual, "e", Service.symmetric())
        #expect(try service.register("e", key).state?["assignedHub"] == "two.example")
    }

    @Test func noHubMakesAResultThatFailed() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.put(.individual, "d", Service.symmetric())
        let operation = try service.register("d", key)
        #expect(operation.json()["status"] == "failed")
        #expect(operation.state?["errorCode"]?.integer == 404210)
        #expect(operation.state?["errorMessage"]?.string?.isEmpty == false)
        #expect(try service.enrollments.runningOperations().isEmpty)
        try service.link("one.example", "two.example")
        try service.put(.individual, "d", Service.symmetric(["allocationPolicy": "static"]))
        #expect(try service.register("d", key).state?["errorCode"]?.integer == 400206)
        try service.put(.individual, "d", Service.symmetric(["allocationPolicy": "Static", "iotHubs": ["TWO.example"]]))
        #expect(try service.register("d", key).state?["assignedHub"] == "two.example")
        try service.enrollments.perform(.putHub(["name": "two.example", "applyAllocationPolicy": false]))
        try service.put(.individual, "e", Service.symmetric())
        #expect(try service.register("e", key).state?["assignedHub"] == "one.example")
        try service.put(.individual, "f", Service.symmetric(["iotHubHostName": "two.example"]))
        #expect(try service.register("f", key).state?["assignedHub"] == "two.example")
    }

    // MARK: - Registering again

    /// From the first hub to the second, by what the policy says.
    private func move(_ policy: JSONValue, version: String = "2019-03-31", migrated: Bool = true) throws -> RegistrationOperation {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("test.example", "prod.example")
        var document = Service.symmetric(["allocationPolicy": "static", "iotHubs": ["test.example"], "reprovisionPolicy": policy])
        try service.put(.individual, "d", document)
        try service.register("d", key)
        document["iotHubs"] = ["prod.example"]
        try service.put(.individual, "d", document)
        return try service.register("d", key, version: version, migrated: migrated)
    }

    @Test func theReprovisionPolicyIsKeptTo() throws {
        let usual = try move(nil)
        #expect(usual.plan?.work == .move && usual.plan?.migrates == true)
        #expect(usual.plan?.previousHub == "test.example" && usual.plan?.previousDeviceID == "d")
        #expect(usual.state?["assignedHub"] == "prod.example" && usual.state?["substatus"] == "deviceDataMigrated")
        #expect(try move(nil, migrated: false).state?["substatus"] == "deviceDataReset")
        let reset = try move(["updateHubAssignment": true, "migrateDeviceData": false], migrated: false)
        #expect(reset.plan?.work == .move && reset.plan?.migrates == false)
        #expect(reset.state?["substatus"] == "deviceDataReset")
        for stays in [
            try move(["updateHubAssignment": false, "migrateDeviceData": true]), try move(nil, version: "2018-04-01"),
        ] {
            #expect(stays.plan?.work == .keep)
            #expect(stays.state?["assignedHub"] == "test.example" && stays.state?["substatus"] == "initialAssignment")
        }
        let old = try move(["updateHubAssignment": true, "migrateDeviceData": true], version: "2017-11-15")
        #expect(old.plan?.work == .move)
    }

    @Test func aResetInTheSameHubBeginsTheTwinAnew() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("test.example")
        let twin: JSONValue = ["tags": ["stage": "test"], "properties": ["desired": ["interval": 5]]]
        let policy: JSONValue = ["updateHubAssignment": true, "migrateDeviceData": false]
        try service.put(.individual, "d", Service.symmetric(["initialTwin": twin, "reprovisionPolicy": policy]))
        #expect(try service.register("d", key).plan?.work == .create)
        let again = try service.register("d", key)
        #expect(again.plan?.work == .reset && again.plan?.twin == twin)
        #expect(again.state?["substatus"] == "deviceDataReset")
    }

    @Test func anotherDeviceIdIsAMoveToo() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("test.example")
        try service.put(.individual, "d", Service.symmetric())
        try service.register("d", key)
        try service.put(.individual, "d", Service.symmetric(["deviceId": "press/7".replacingSlash]))
        let moved = try service.register("d", key)
        #expect(moved.plan?.work == .move && moved.plan?.previousDeviceID == "d")
        #expect(moved.state?["deviceId"] == "press-7")
    }

    @Test func aDeletedRecordMakesTheNextRegistrationTheFirst() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("test.example")
        try service.put(.individual, "d", Service.symmetric(["reprovisionPolicy": ["updateHubAssignment": false]]))
        try service.register("d", key)
        let record = try #require(try service.enrollments.record("d"))
        #expect(throws: EnrollmentError.preconditionFailed) {
            try service.enrollments.perform(.deleteRecord(registrationID: "d", .etag("other")))
        }
        try service.enrollments.perform(.deleteRecord(registrationID: "d", .etag(record.writtenETag)))
        #expect(try service.register("d", key).plan?.work == .create)
    }

    // MARK: - Webhooks

    private func ask(_ service: Service, _ answer: WebhookAnswer) throws -> RegistrationOperation {
        let key = try #require(SymmetricKey(base64: Service.key))
        let admission = try service.admit("d", token: Service.token("d", key))
        let begun = try #require(
            try service.enrollments.perform(.begin(admission, payload: ["model": "x9"], apiVersion: "2021-06-01")).operation)
        #expect(begun.plan == nil && !begun.hasEnded)
        let call = try #require(begun.webhook)
        #expect(call.url == "https://hook.example/")
        #expect(call.body["linkedHubs"] == ["one.example", "two.example"])
        #expect(call.body["deviceRuntimeContext"]?["payload"] == ["model": "x9"])
        #expect(call.body["deviceRuntimeContext"]?["symmetricKey"] == [:])
        #expect(call.body["individualEnrollment"]?["attestation"] == ["type": "symmetricKey"])
        #expect(!call.body.text().utf8.elementsEqual("".utf8) && !call.body.text().hasSuffix(Service.key))
        return try #require(try service.enrollments.perform(.answer(operation: begun.id, answer)).operation)
    }

    @Test func aWebhookDecidesAmongTheCandidates() throws {
        let service = try Service()
        try service.link("one.example", "two.example", "three.example")
        try service.put(
            .individual, "d",
            Service.symmetric([
                "allocationPolicy": "custom", "iotHubs": ["one.example", "two.example"],
                "customAllocationDefinition": ["webhookUrl": "https://hook.example/", "apiVersion": "2019-03-31"],
            ]))
        for (answer, wanted) in [
            (WebhookAnswer(status: 404, body: []), "Custom allocation failed with status code: 404"),
            (.silence, "Custom allocation failed: the webhook did not answer"),
            (WebhookAnswer(status: 200, body: Array("no".utf8)), nil),
            (WebhookAnswer(status: 200, body: Array(#"{"iotHubHostName":"three.example"}"#.utf8)), nil),
            (WebhookAnswer(status: 200, body: Array(#"{"iotHubHostName":null}"#.utf8)), nil),
            (WebhookAnswer(status: 200, body: Array(#"{"iotHubHostName":"one.example","initialTwin":5}"#.utf8)), nil),
        ] as [(WebhookAnswer, String?)] {
            let failed = try ask(service, answer)
            #expect(failed.state?["errorCode"]?.integer == 400207)
            if let wanted { #expect(failed.state?["errorMessage"]?.string == wanted) }
        }
        let good = #"{"iotHubHostName":"TWO.example","initialTwin":{"tags":{"line":"a"}},"payload":{"certUrl":"x"}}"#
        let decided = try ask(service, WebhookAnswer(status: 200, body: Array(good.utf8)))
        #expect(decided.plan?.hub == "two.example" && decided.plan?.twin == ["tags": ["line": "a"]])
        let done = try #require(try service.enrollments.perform(.finish(operation: decided.id, .assigned(migrated: false))).operation)
        #expect(done.state?["payload"] == ["certUrl": "x"])
    }

    // MARK: - Once and for all

    @Test func severalRequestsOfOneDeviceAreOneOperation() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("one.example")
        try service.put(.individual, "d", Service.symmetric())
        let admission = try service.admit("d", token: Service.token("d", key))
        let begin = EnrollmentCommand.begin(admission, payload: nil, apiVersion: "2019-03-31")
        let first = try #require(try service.enrollments.perform(begin).operation)
        let second = try #require(try service.enrollments.perform(begin).operation)
        #expect(first.id == second.id)
        #expect(try service.enrollments.operation(first.id, of: "D")?.id == first.id)
        #expect(try service.enrollments.operation(first.id, of: "other") == nil)
        let running = try service.enrollments.runningOperations()
        #expect(running.map(\.id) == [first.id] && running[0].plan == first.plan)
        #expect(running[0].authentication["symmetricKey"]?["primaryKey"]?.string == Service.key)
        #expect(first.json()["registrationState"] == ["registrationId": "d", "status": "assigning"])
        #expect(first.json(brief: true)["registrationState"] == nil)
        try service.enrollments.perform(.finish(operation: first.id, .assigned(migrated: false)))
        let again = try service.enrollments.perform(.finish(operation: first.id, .failed(code: 500001, message: "late"))).operation
        #expect(again?.state?["status"] == "assigned")
        #expect(try service.enrollments.runningOperations().isEmpty)
        try service.enrollments.perform(.sweep(before: Timestamp(seconds: Timestamp.now.seconds + 10)))
        #expect(try service.enrollments.operation(first.id, of: "d") == nil)
    }

    @Test func aMoveRemembersThatTheTwinWasCopied() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("one.example", "two.example")
        try service.put(.individual, "d", Service.symmetric(["iotHubs": ["one.example"]]))
        try service.register("d", key)
        try service.put(.individual, "d", Service.symmetric(["iotHubs": ["two.example"]]))
        let admission = try service.admit("d", token: Service.token("d", key))
        let begun = try #require(try service.enrollments.perform(.begin(admission, payload: nil, apiVersion: "2021-06-01")).operation)
        try service.enrollments.perform(.noteCopied(operation: begun.id, migrated: true))
        #expect(try service.enrollments.runningOperations()[0].plan?.copied == true)
        let done = try service.enrollments.perform(.finish(operation: begun.id, .assigned(migrated: false))).operation
        #expect(done?.state?["substatus"] == "deviceDataMigrated")
    }

    @Test func aRegistrationThatFailsLeavesTheRecordAsItWas() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("one.example")
        try service.put(.individual, "d", Service.symmetric())
        try service.register("d", key)
        let before = try service.enrollments.record("d")
        let admission = try service.admit("d", token: Service.token("d", key))
        let begun = try #require(try service.enrollments.perform(.begin(admission, payload: nil, apiVersion: "2021-06-01")).operation)
        let failed = try service.enrollments.perform(.finish(operation: begun.id, .failed(code: 500002, message: "hub away"))).operation
        #expect(failed?.json()["status"] == "failed")
        #expect(try service.enrollments.record("d") == before)
    }
}

extension String {
    /// Ids have no slashes.
    fileprivate var replacingSlash: JSONValue { .string(String(map { $0 == "/" ? "-" : $0 })) }
}
