import Registry
import Store
import Testing
import Wire

@Suite struct IdentityTests {
    let hub: Hub

    init() throws { hub = try Hub() }

    // MARK: - Conditions, service-rest 5.2

    enum Condition: CaseIterable { case absent, any, same, other }

    private func condition(_ kind: Condition, _ etag: String?) -> IfMatch {
        switch kind {
        case .absent: .absent
        case .any: .any
        case .same: .etag(etag ?? "MQ==")
        case .other: .etag("b3RoZXI=")
        }
    }

    /// What a PUT answers: nil is success.
    static let puts: [(Bool, Condition, Int?)] = [
        (false, .absent, nil), (false, .any, 404001), (false, .same, 404001), (false, .other, 404001), (true, .absent, 409001),
        (true, .any, nil), (true, .same, nil), (true, .other, 412001),
    ]

    @Test(arguments: puts) func putsADeviceUnderItsCondition(exists: Bool, kind: Condition, code: Int?) throws {
        let etag = exists ? try hub.put(id("d1")).etag : nil
        do {
            let identity = try hub.put(id("d1"), condition(kind, etag))
            #expect(code == nil)
            #expect(identity.etag != etag)
        } catch {
            #expect(error.code == code)
        }
    }

    @Test(arguments: puts) func putsAModuleUnderItsCondition(exists: Bool, kind: Condition, code: Int?) throws {
        try hub.put(id("d1"))
        let etag = exists ? try hub.put(id("d1", "m")).etag : nil
        let codes = [404001: 404010, 409001: 409301]
        do {
            try hub.put(id("d1", "m"), condition(kind, etag))
            #expect(code == nil)
        } catch {
            #expect(error.code == code.map { codes[$0] ?? $0 })
        }
    }

    @Test(
        arguments: [
            (false, Condition.absent, 404001), (false, .any, 404001), (false, .other, 404001), (true, .absent, nil), (true, .any, nil),
            (true, .same, nil), (true, .other, 412001),
        ] as [(Bool, Condition, Int?)])
    func deletesADeviceUnderItsCondition(exists: Bool, kind: Condition, code: Int?) throws {
        let etag = exists ? try hub.put(id("d1")).etag : nil
        do {
            try hub.delete(id("d1"), condition(kind, etag))
            #expect(code == nil)
            #expect(throws: RegistryError.deviceNotFound("d1")) { try hub.registry.identity(id("d1")) }
        } catch {
            #expect(error.code == code)
        }
    }

    @Test(
        arguments: [
            (nil, .absent), ("", .absent), ("*", .any), ("\"*\"", .any), ("W/\"*\"", .any), ("\"MTIz\"", .etag("MTIz")),
            ("MTIz", .etag("MTIz")), ("W/\"MTIz\"", .etag("MTIz")), (" \"MTIz\" ", .etag("MTIz")), ("\"", .etag("\"")),
        ] as [(String?, IfMatch)])
    func readsEveryFormOfIfMatch(header: String?, condition: IfMatch) {
        #expect(IfMatch(header: header) == condition)
    }

    // MARK: - Documents

    @Test func createsADeviceWithKeysAndDefaults() throws {
        let device = try hub.put(id("d1"))
        let document = device.document()
        #expect(
            document.object?.keys == [
                "deviceId", "generationId", "etag", "connectionState", "status", "statusReason", "connectionStateUpdatedTime",
                "statusUpdatedTime", "lastActivityTime", "cloudToDeviceMessageCount", "authentication", "capabilities", "deviceScope",
                "parentScopes",
            ])
        #expect(document["connectionState"] == "Disconnected")
        #expect(document["status"] == "enabled")
        #expect(document["statusUpdatedTime"] == "0001-01-01T00:00:00Z")
        #expect(document["deviceScope"] == .null)
        #expect(document["authentication"]?["type"] == "sas")
        #expect(document["authentication"]?["symmetricKey"]?["primaryKey"]?.string?.utf8.count == 44)
        #expect(document["authentication"]?["x509Thumbprint"] == ["primaryThumbprint": .null, "secondaryThumbprint": .null])
        #expect(Base64.decode(device.etag).map { String(decoding: $0, as: UTF8.self) }.flatMap { UInt64($0) } != nil)
        #expect(try hub.registry.identity(id("d1")) == device)
        var live = LiveState()
        live.isConnected = true
        live.cloudToDeviceMessageCount = 3
        #expect(device.document(live: live)["connectionState"] == "Connected")
        #expect(device.document(live: live)["cloudToDeviceMessageCount"] == 3)
    }

    @Test func tellsARecreatedDeviceByItsGeneration() throws {
        let first = try hub.put(id("d1"))
        let replaced = try hub.put(id("d1"), .any)
        #expect(replaced.generationID == first.generationID)
        try hub.delete(id("d1"))
        let second = try hub.put(id("d1"))
        #expect(second.generationID != first.generationID)
        #expect(second.generationID.utf8.count == 18)
    }

    @Test func showsModulesWithoutStatus() throws {
        try hub.put(id("d1"))
        let module = try hub.put(id("d1", "m1")) { $0.managedBy = "me" }
        let document = module.document()
        #expect(document["moduleId"] == "m1")
        #expect(document["managedBy"] == "me")
        #expect(document["status"] == nil && document["capabilities"] == nil)
        #expect(try hub.registry.modules(of: "d1") == [module])
        #expect(throws: RegistryError.deviceNotFound("d2")) { try hub.put(id("d2", "m")) }
        #expect(throws: RegistryError.deviceNotFound("d2")) { try hub.registry.modules(of: "d2") }
        #expect(throws: RegistryError.moduleNotFound(id("d1", "m2"))) { try hub.registry.identity(id("d1", "m2")) }
    }

    @Test func allowsFiftyModules() throws {
        try hub.put(id("d1"))
        try hub.put(id("d10"))
        for number in 0..<50 { try hub.put(id("d1", "m\(number)")) }
        #expect(throws: RegistryError.tooManyModules(device: "d1")) { try hub.put(id("d1", "m50")) }
        #expect(RegistryError.tooManyModules(device: "d1").httpStatus == 403)
        try hub.put(id("d1", "m7"), .any)
        try hub.put(id("d10", "m"))
        #expect(try hub.registry.modules(of: "d1").count == 50)
    }

    @Test func takesEverythingWithADeletedDevice() throws {
        try hub.put(id("d1"))
        try hub.put(id("d1", "m"))
        try hub.put(id("d1x"))
        try hub.registry.perform(.setSession(id("d1"), MQTTSession(subscriptions: [.init(filter: "a/#", qos: 1)])))
        try hub.delete(id("d1"))
        try hub.put(id("d1"))
        #expect(try hub.registry.modules(of: "d1").isEmpty)
        #expect(try hub.registry.session(id("d1")) == nil)
        #expect(try hub.registry.twin(id("d1")).json(live: nil)["version"] == 2)
        #expect(try hub.registry.identity(id("d1x")).isEnabled)
    }

    // MARK: - Requests

    @Test(arguments: [
        (#"{"authentication":{"symmetricKey":{"primaryKey":"AAECAwQFBgcICQoLDA0ODw=="}}}"#, "sas"),
        (#"{"authentication":{"type":"sas","symmetricKey":{"primaryKey":null,"secondaryKey":null}}}"#, "sas"),
        (#"{"authentication":{"x509Thumbprint":{"secondaryThumbprint":"0123456789ABCDEF0123456789abcdef01234567"}}}"#, "selfSigned"),
        (#"{"authentication":{"type":"certificateAuthority"}}"#, "certificateAuthority"), (#"{"authentication":{"type":"none"}}"#, "none"),
        (#"{"deviceId":"d1","unknown":1,"status":"Disabled","statusReason":"lost"}"#, "sas"), ("{}", "sas"),
    ])
    func infersTheTypeOfAuthentication(body: String, type: String) throws {
        let request = try IdentityRequest(json: JSONValue.parse(body), for: id("d1"))
        let outcome = try hub.registry.perform(.putIdentity(id("d1"), request, .absent))
        #expect(outcome.identity?.authentication.type == type)
    }

    @Test(arguments: [
        "[]", #"{"deviceId":"d2"}"#, #"{"moduleId":"m"}"#, #"{"status":"asleep"}"#, #"{"status":1}"#, #"{"authentication":[]}"#,
        #"{"authentication":{"type":"magic"}}"#, #"{"authentication":{"symmetricKey":{"primaryKey":"c2hvcnQ="}}}"#,
        #"{"authentication":{"symmetricKey":{"primaryKey":"not base64 at all"}}}"#, #"{"authentication":{"type":"selfSigned"}}"#,
        #"{"authentication":{"x509Thumbprint":{"primaryThumbprint":"01:23"}}}"#,
        #"{"authentication":{"x509Thumbprint":{"primaryThumbprint":"zz23456789ABCDEF0123456789abcdef01234567"}}}"#,
        #"{"parentScopes":"x"}"#, #"{"deviceScope":"ms-azure-iot-edge://nobody-1"}"#, #"{"capabilities":{"iotEdge":"yes"}}"#,
    ])
    func refusesBadBodies(body: String) throws {
        let before = try hub.registry.store.lastSequence()
        do {
            let request = try IdentityRequest(json: JSONValue.parse(body), for: id("d1"))
            try hub.registry.perform(.putIdentity(id("d1"), request, .absent))
            Issue.record("took \(body)")
        } catch let error as RegistryError {
            #expect(error.httpStatus == 400)
        }
        #expect(try hub.registry.store.lastSequence() == before)
    }

    @Test func refusesALongReason() throws {
        let reason = String(repeating: "r", count: 129)
        #expect(throws: RegistryError.self) { try hub.put(id("d1")) { $0.statusReason = reason } }
        try hub.put(id("d1")) { $0.statusReason = String(reason.dropLast()) }
    }

    // MARK: - Status and keys

    @Test func countsAndLogsDisabling() throws {
        for name in ["a", "b", "c"] { try hub.put(id(name)) }
        let before = try hub.registry.store.lastSequence()
        let outcome = try hub.registry.perform(.setStatus(device: "b", .disabled, reason: "stolen"), now: hub.now)
        #expect(outcome.identity?.document()["statusUpdatedTime"] == "2023-11-14T22:13:20Z")
        #expect(outcome.identity?.statusReason == "stolen")
        #expect(try hub.registry.statistics() == DeviceStatistics(total: 3, enabled: 2, disabled: 1))
        try hub.registry.perform(.setStatus(device: "b", .disabled, reason: "stolen"), now: hub.now)  // nothing new, nothing logged
        let changes = try hub.changes(after: before)
        #expect(changes.map(\.kind) == [.identityUpdated])
        #expect(changes.first?.device == "b" && changes.first?.aspects == [.status])
        try hub.delete(id("b"))
        #expect(try hub.registry.statistics() == DeviceStatistics(total: 2, enabled: 2, disabled: 0))
        #expect(throws: RegistryError.deviceNotFound("b")) { try hub.registry.perform(.setStatus(device: "b", .enabled, reason: nil)) }
    }

    @Test func rotatesKeys() throws {
        let old = try #require(keys(hub.put(id("d1"))))
        func rotate(_ slot: KeySlot) throws -> (primary: SymmetricKey, secondary: SymmetricKey) {
            let outcome = try hub.registry.perform(.rotateKey(id("d1"), slot, .absent))
            return try #require(outcome.identity.flatMap { keys($0) })
        }
        let primary = try rotate(.primary)
        #expect(primary.primary != old.primary && primary.secondary == old.secondary)
        let swapped = try rotate(.swap)
        #expect(swapped.primary == old.secondary && swapped.secondary == primary.primary)
        let secondary = try rotate(.secondary)
        #expect(secondary.primary == swapped.primary && secondary.secondary != swapped.secondary)
        try hub.put(id("ca")) { $0.authentication = AuthenticationRequest(.certificateAuthority) }
        #expect(throws: RegistryError.self) { try hub.registry.perform(.rotateKey(id("ca"), .swap, .absent)) }
        #expect(throws: RegistryError.preconditionFailed) { try hub.registry.perform(.rotateKey(id("d1"), .swap, .etag("x"))) }
    }

    // MARK: - Edge

    @Test func givesAnEdgeDeviceItsScopeAndModules() throws {
        let edge = try hub.put(id("edge-1")) { $0.isEdge = true }
        let scope = "ms-azure-iot-edge://edge-1-\(edge.generationID)"
        #expect(edge.deviceScope == scope)
        let modules = try hub.registry.modules(of: "edge-1")
        #expect(modules.map(\.name.moduleID) == ["$edgeAgent", "$edgeHub"])
        #expect(modules.allSatisfy { $0.authentication == .none && $0.managedBy == "iotEdge" })
        let leaf = try hub.put(id("leaf")) { $0.parent = "edge-1" }
        #expect(leaf.deviceScope == scope && leaf.parentScopes == [scope])
        let inner = try hub.put(id("inner")) {
            $0.isEdge = true
            $0.parentScopes = [scope]
        }
        #expect(inner.parentScopes == [scope] && inner.deviceScope != scope)
        #expect(throws: RegistryError.self) {  // a ring
            try hub.put(id("edge-1"), .any) {
                $0.isEdge = true
                $0.parent = "inner"
            }
        }
        #expect(throws: RegistryError.self) { try hub.put(id("leaf2")) { $0.parent = "leaf" } }
        #expect(throws: RegistryError.deviceNotFound("nobody")) { try hub.put(id("leaf2")) { $0.parent = "nobody" } }
    }

    @Test func allowsAHundredChildren() throws {
        try hub.put(id("edge")) { $0.isEdge = true }
        for number in 0..<100 { try hub.put(id("c\(number)")) { $0.parent = "edge" } }
        #expect(throws: RegistryError.self) { try hub.put(id("c100")) { $0.parent = "edge" } }
        try hub.put(id("c5"), .any) { $0.parent = "edge" }  // is one already
        try hub.put(id("c6"), .any)  // leaves
        try hub.put(id("c100")) { $0.parent = "edge" }
        try hub.delete(id("c7"))
        try hub.put(id("c101")) { $0.parent = "edge" }
    }

    // MARK: - Many

    @Test func listsInOrderAndByPages() throws {
        for name in ["b", "a", "c", "a.b"] { try hub.put(id(name)) }
        #expect(try hub.registry.devices().map(\.name.deviceID) == ["a", "a.b", "b", "c"])
        #expect(try hub.registry.devices(top: 2).map(\.name.deviceID) == ["a", "a.b"])
        #expect(try hub.registry.devices(top: 2, after: "a.b").map(\.name.deviceID) == ["b", "c"])
    }

    @Test func makesTenThousandDevicesInBatches() throws {
        for batch in 0..<100 {
            let entries = (0..<100).map { BulkEntry(id("device-\(batch)-\($0)"), .create) }
            #expect(try hub.registry.perform(.bulk(entries)).bulk?.succeeded == 100)
        }
        #expect(try hub.registry.statistics().total == 10_000)
        var count = 0
        try hub.registry.forEachDevice { _ throws(RegistryError) in
            count += 1
            return true
        }
        #expect(count == 10_000)
    }
}
