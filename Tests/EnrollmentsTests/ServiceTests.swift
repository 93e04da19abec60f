import Testing
import Wire

@testable import Enrollments

/// Requests of the service API, with the owner's rights unless a token is there.
@Suite struct ServiceTests {
    private struct Answer {
        var status: Int
        var headers: HTTPHeaders
        var json: JSONValue
    }

    private func ask(
        _ service: Service, _ method: String, _ path: String, _ body: JSONValue? = nil, headers: HTTPHeaders = HTTPHeaders(),
        _ access: EnrollmentService.Access = .owner
    ) -> Answer {
        let head = HTTPRequestHead(
            method: method, target: path + (path.utf8.contains(UInt8(ascii: "?")) ? "" : "?api-version=2021-10-01"), headers: headers)
        let turn = EnrollmentService(service.enrollments).serve(head, body: body?.bytes() ?? [], access)
        let answer: ServiceAnswer
        switch turn.step {
        case .answer(let made): answer = made
        case .commit(let command, let answering):
            do throws(EnrollmentError) {
                answer = answering(try service.enrollments.perform(command))
            } catch { answer = ServiceAnswer(error) }
        }
        return Answer(status: answer.status, headers: answer.headers, json: answer.json ?? .null)
    }

    private static let document: JSONValue = ["registrationId": "Press-07", "attestation": ["type": "symmetricKey"]]

    @Test func keysAreShownWhenTheyAreWrittenAndWhenSomebodyAsksForThem() throws {
        let service = try Service()
        let made = ask(service, "PUT", "/enrollments/Press-07", Self.document)
        #expect(made.status == 200)
        let keys = made.json["attestation"]?["symmetricKey"]
        #expect(keys?["primaryKey"]?.string.flatMap { Base64.decode($0)?.count } == 64)
        #expect(keys?["primaryKey"] != keys?["secondaryKey"])
        let read = ask(service, "GET", "/enrollments/press-07")
        #expect(read.status == 200 && read.json["attestation"] == ["type": "symmetricKey", "symmetricKey": [:]])
        #expect(read.json["registrationId"] == "Press-07" && read.json["provisioningStatus"] == "enabled")
        #expect(read.json["etag"]?.string == read.headers["ETag"])
        #expect(read.json["iotHubs"] == Optional<JSONValue>.none && read.json["registrationState"] == Optional<JSONValue>.none)
        #expect(ask(service, "POST", "/enrollments/press-07/attestationmechanism").json["symmetricKey"] == keys)
        // What was read is sent back: the keys stay.
        let again = ask(service, "PUT", "/enrollments/press-07", read.json)
        #expect(again.json["attestation"]?["symmetricKey"] == keys)
        #expect(again.json["createdDateTimeUtc"] == made.json["createdDateTimeUtc"])
        #expect(again.json["etag"] != made.json["etag"])
        let all = ask(service, "POST", "/enrollments/query", ["query": "SELECT * FROM enrollments"])
        #expect(all.json[0]?["attestation"]?["symmetricKey"] == [:])
    }

    @Test func conditionsAreKeptTo() throws {
        let service = try Service()
        func put(_ condition: String?) -> Answer {
            var headers = HTTPHeaders()
            if let condition { headers.add("If-Match", condition) }
            return ask(service, "PUT", "/enrollments/press-07", Self.document, headers: headers)
        }
        #expect(put("\"x\"").status == 412)
        #expect(put("*").status == 200)
        let etag = try #require(ask(service, "GET", "/enrollments/press-07").headers["ETag"])
        #expect(put(etag).status == 200)
        #expect(put(etag).status == 412)
        #expect(put(nil).status == 200)
        let bare = try #require(ask(service, "GET", "/enrollments/press-07").headers["ETag"]).filter { $0 != "\"" }
        #expect(put(bare).status == 200)
        #expect(ask(service, "DELETE", "/enrollments/press-07", headers: ["If-Match": "\"x\""]).status == 412)
        #expect(ask(service, "DELETE", "/enrollments/press-07").status == 204)
        for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/attestationmechanism")] {
            let gone = ask(service, method, "/enrollments/press-07\(path)")
            #expect(gone.status == 404 && gone.json["errorCode"]?.integer == 404201)
        }
        #expect(ask(service, "PATCH", "/enrollments/press-07").headers["Allow"] == "GET, PUT, DELETE")
    }

    @Test func whatIsImpossibleIsRefused() throws {
        let service = try Service()
        let wrong: [JSONValue] = [
            [], [:], ["attestation": 5], ["attestation": ["type": "none"]], ["attestation": ["type": "x509"]],
            ["attestation": ["type": "symmetricKey", "symmetricKey": ["primaryKey": "AAAA"]]],
            ["attestation": ["type": "x509", "x509": ["clientCertificates": ["primary": ["certificate": "AAAA"]]]]],
            ["attestation": ["type": "x509", "x509": ["caReferences": ["primary": "nobody"]]]],
            ["registrationId": "other", "attestation": ["type": "symmetricKey"]],
            ["attestation": ["type": "symmetricKey"], "allocationPolicy": "custom"],
            ["attestation": ["type": "symmetricKey"], "allocationPolicy": "random"],
            ["attestation": ["type": "symmetricKey"], "provisioningStatus": "off"],
            ["attestation": ["type": "symmetricKey"], "deviceId": "a/b"],
            ["attestation": ["type": "symmetricKey"], "initialTwin": ["tags": 5]],
            ["attestation": ["type": "symmetricKey"], "reprovisionPolicy": ["migrateDeviceData": "yes"]],
            ["attestation": ["type": "symmetricKey"], "iotHubs": [5]],
            ["attestation": ["type": "symmetricKey"], "customAllocationDefinition": ["webhookUrl": "ftp://x"]],
        ]
        for document in wrong {
            let answer = ask(service, "PUT", "/enrollments/d", document)
            #expect(answer.status == 400 && answer.json["errorCode"]?.integer == 400004, "\(document.text())")
        }
        for id in ["a%2Fb", "d.", "", String(repeating: "a", count: 129), "a%20b"] {
            #expect(ask(service, "PUT", "/enrollments/\(id)", ["attestation": ["type": "symmetricKey"]]).status == 400, "\(id)")
        }
        #expect(ask(service, "GET", "/enrollments/d?api-version=").status == 400)
        #expect(ask(service, "GET", "/enrollments/d?x=1").status == 400)
        #expect(ask(service, "GET", "/nothing").status == 404)
        #expect(ask(service, "PUT", "/enrollments/d%3A1", ["attestation": ["type": "symmetricKey"]]).json["registrationId"] == "d:1")
    }

    @Test func pagesFollowEachOther() throws {
        let service = try Service()
        for number in 0..<25 { try service.put(.group, "g-\(number)", Service.symmetric(["capabilities": ["iotEdge": .bool(number < 5)]])) }
        var found: [String] = [], next: String?
        repeat {
            var headers: HTTPHeaders = ["x-ms-max-item-count": "10"]
            if let next { headers.add("x-ms-continuation", next) }
            let page = ask(service, "POST", "/enrollmentGroups/query", ["query": "SELECT * FROM enrollmentGroups"], headers: headers)
            #expect(page.headers["x-ms-item-type"] == "EnrollmentGroup")
            found += page.json.array?.compactMap { $0["enrollmentGroupId"]?.string } ?? []
            next = page.headers["x-ms-continuation"]
        } while next != nil
        #expect(found.count == 25 && Set(found).count == 25)
        let edges = ask(
            service, "POST", "/enrollmentGroups/query", ["query": "SELECT * FROM enrollmentGroups WHERE capabilities.iotEdge = true"])
        #expect(edges.json.array?.count == 5)
        for text in ["SELECT * FROM devices", "SELECT etag FROM enrollmentGroups", "SELECT * FROM enrollments", ""] {
            #expect(ask(service, "POST", "/enrollmentGroups/query", ["query": .string(text)]).status == 400)
        }
    }

    @Test func entriesOfABulkRequestStandAlone() throws {
        let service = try Service()
        func bulk(_ mode: String, _ ids: [String], etag: String? = nil) -> JSONValue {
            let entries = ids.map { id -> JSONValue in
                var entry: JSONValue = ["registrationId": .string(id), "attestation": ["type": "symmetricKey"]]
                if let etag { entry["etag"] = .string(etag) }
                return entry
            }
            return ask(service, "POST", "/enrollments", ["enrollments": .array(entries), "mode": .string(mode)]).json
        }
        #expect(bulk("create", ["a", "b"]) == ["isSuccessful": true, "errors": []])
        let twice = bulk("create", ["b", "c"])
        #expect(twice["isSuccessful"] == false && twice["errors"]?[0]?["registrationId"] == "b")
        #expect(twice["errors"]?[0]?["errorCode"]?.integer == 409201 && twice["errors"]?.array?.count == 1)
        #expect(ask(service, "GET", "/enrollments/c").status == 200)
        #expect(bulk("update", ["a", "x"])["errors"]?[0]?["registrationId"] == "x")
        #expect(bulk("updateIfMatchEtag", ["a"], etag: "\"no\"")["isSuccessful"] == false)
        let etag = try #require(ask(service, "GET", "/enrollments/a").json["etag"]?.string)
        #expect(bulk("updateIfMatchETag", ["a"], etag: etag)["isSuccessful"] == true)
        #expect(bulk("delete", ["a", "b", "c"])["isSuccessful"] == true)
        #expect(bulk("create", (0..<11).map { "d\($0)" })["errorCode"]?.integer == 400004)
        #expect(bulk("replace", ["a"])["errorCode"]?.integer == 400004)
    }

    @Test func tokensAndRightsAreKeptTo() throws {
        let service = try Service(), owner = try #require(try service.enrollments.policies().first)
        #expect(owner.name == "provisioningserviceowner" && owner.rights == .all)
        try service.enrollments.perform(.putPolicy(name: "reader", ["rights": "EnrollmentRead"]))
        let reader = try #require(try service.enrollments.policies().first { $0.name == "reader" })
        func status(
            _ method: String, _ path: String, _ policy: ServicePolicy, resource: String = "dps.example", expiry: Int64 = 1_700_000_600,
            name: String? = nil, secondary: Bool = false
        ) -> Int {
            let token = SASToken.make(
                resource: resource, key: secondary ? policy.secondaryKey : policy.primaryKey, expiry: expiry, policy: name ?? policy.name)
            return ask(
                service, method, path, method == "PUT" ? ["attestation": ["type": "symmetricKey"]] : nil, headers: ["Authorization": token],
                .token(hosts: ["dps.example"], now: 1_700_000_000)
            ).status
        }
        #expect(status("PUT", "/enrollments/d", owner) == 200)
        #expect(status("GET", "/enrollments/d", reader) == 200)
        #expect(status("GET", "/enrollments/d", reader, secondary: true) == 200)
        #expect(status("GET", "/enrollments/d", reader, resource: "dps.example/enrollments/d") == 200)
        #expect(status("GET", "/enrollments/d", reader, resource: "DPS.example:8443") == 200)
        #expect(status("GET", "/enrollments/d", reader, resource: "dps.example/enrollments/e") == 401)
        #expect(status("GET", "/enrollments/d", reader, resource: "hub.example") == 401)
        #expect(status("GET", "/enrollments/d", reader, expiry: 1_699_999_000) == 401)
        #expect(status("GET", "/enrollments/d", reader, name: "nobody") == 401)
        #expect(status("GET", "/enrollments/d", owner, name: "reader") == 401)
        for (method, path) in [
            ("PUT", "/enrollments/d"), ("DELETE", "/enrollments/d"), ("POST", "/enrollments/d/attestationmechanism"),
            ("GET", "/registrations/d"), ("DELETE", "/registrations/d"), ("GET", "/linkedHubs"), ("GET", "/policies"), ("GET", "/settings"),
        ] { #expect(status(method, path, reader) == 401, "\(method) \(path)") }
        let bare = ask(service, "GET", "/enrollments/d", nil, .token(hosts: ["dps.example"], now: 1_700_000_000))
        #expect(bare.status == 401 && bare.json["errorCode"]?.integer == 401002)
        let last = EnrollmentError.conflict("provisioningserviceowner is the last policy with ServiceConfig")
        #expect(throws: last) { try service.enrollments.perform(.deletePolicy(name: "provisioningserviceowner")) }
        #expect(throws: last) {
            try service.enrollments.perform(.putPolicy(name: "provisioningserviceowner", ["rights": "EnrollmentRead"]))
        }
        try service.enrollments.perform(.putPolicy(name: "reader", ["rights": "EnrollmentWrite"]))
        let writer = try #require(try service.enrollments.policies().first { $0.name == "reader" })
        #expect(writer.primaryKey == reader.primaryKey && writer.rights == [.enrollmentRead, .enrollmentWrite])
        let other: JSONValue = ["secondaryKey": .string(Service.otherKey)]
        try service.enrollments.perform(.putPolicy(name: "reader", other))
        let turned = try #require(try service.enrollments.policies().first { $0.name == "reader" })
        #expect(turned.secondaryKey.base64 == Service.otherKey && turned.rights == writer.rights && turned.primaryKey == reader.primaryKey)
    }

    @Test func connectionStringsOfLinkedHubsAreNeverShown() throws {
        let service = try Service()
        let text = "HostName=one.example:8443;SharedAccessKeyName=dps;SharedAccessKey=\(Service.otherKey)"
        let made = ask(service, "PUT", "/linkedHubs/one.example", ["connectionString": .string(text), "allocationWeight": 3])
        #expect(made.status == 200)
        for answer in [made, ask(service, "GET", "/linkedHubs/ONE.example")] {
            #expect(answer.json["connectionString"] == Optional<JSONValue>.none)
            #expect(answer.json["allocationWeight"]?.integer == 3 && answer.json["host"] == "one.example:8443")
        }
        #expect(ask(service, "PUT", "/linkedHubs/one.example", ["applyAllocationPolicy": false]).json["allocationWeight"]?.integer == 3)
        #expect(try service.enrollments.hub("one.example")?.connection.text == text)
        for wrong in ["HostName=x", "HostName=x;DeviceId=d;SharedAccessKey=\(Service.otherKey)", "nothing"] {
            #expect(ask(service, "PUT", "/linkedHubs/two.example", ["connectionString": .string(wrong)]).status == 400)
        }
        #expect(ask(service, "PUT", "/linkedHubs/two.example", ["connectionString": .string(text), "allocationWeight": 0]).status == 400)
        #expect(ask(service, "DELETE", "/linkedHubs/one.example").status == 204)
        #expect(ask(service, "GET", "/linkedHubs").json == [])
        #expect(ask(service, "PUT", "/settings", ["allocationPolicy": "static"]).status == 204)
        #expect(ask(service, "GET", "/settings").json == ["idScope": "0ne00012345", "allocationPolicy": "static"])
        #expect(ask(service, "PUT", "/settings", ["allocationPolicy": "custom"]).status == 400)
    }

    @Test func registrationsAreReadAndForgotten() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key))
        try service.link("one.example")
        try service.put(.group, "line", Service.symmetric())
        try service.register("dev-1", try #require(key.derived(for: "dev-1")))
        try service.put(.individual, "press-07", Service.symmetric())
        try service.register("press-07", key)
        let read = ask(service, "GET", "/registrations/DEV-1")
        #expect(read.status == 200 && read.json["symmetricKey"] == ["enrollmentGroupId": "line"])
        #expect(Base64.decode(read.json["etag"]?.string ?? "")?.first == UInt8(ascii: "\""))
        let members = ask(service, "POST", "/registrations/line/query", [:])
        #expect(members.json.array?.count == 1 && members.headers["x-ms-item-type"] == "DeviceRegistration")
        #expect(ask(service, "GET", "/enrollments/press-07").json["registrationState"]?["assignedHub"] == "one.example")
        let etag = try #require(read.json["etag"]?.string)
        #expect(ask(service, "DELETE", "/registrations/dev-1", headers: ["If-Match": "\"x\""]).status == 412)
        #expect(ask(service, "DELETE", "/registrations/dev-1", headers: ["If-Match": etag]).status == 204)
        #expect(ask(service, "GET", "/registrations/dev-1").status == 404)
        #expect(ask(service, "DELETE", "/registrations/dev-1").status == 404)
    }

    @Test func aNewServiceHasAScopeThatStays() throws {
        let service = try Service()
        #expect(try service.enrollments.settings().scope == "0ne00012345")
        let fresh = ServiceSettings.freshScope()
        #expect(fresh.utf8.count == 11 && fresh.hasPrefix("0ne") && fresh.utf8.dropFirst(3).allSatisfy(ASCII.isDigit))
    }
}
