import Registry
import Store
import TLS
import Testing
import Wire

@Suite struct AuthenticationTests {
    let hub: Hub
    let device: Identity
    let key: SymmetricKey
    let now: Int64 = 1_700_000_000
    let hosts = ["hub.example.net", "other.example"]

    init() throws {
        hub = try Hub()
        device = try hub.put(id("dev1"))
        key = try #require(keys(device)).primary
    }

    private func token(_ resource: String, _ key: SymmetricKey? = nil, expiry: Int64? = nil, policy: String? = nil) -> String {
        SASToken.make(resource: resource, key: key ?? self.key, expiry: expiry ?? now + 3600, policy: policy)
    }

    private func refusal(_ token: String?, as name: ClientIdentity? = nil) -> Refusal? {
        do {
            _ = try hub.registry.authenticateDevice(
                token: token, certificates: ClientCertificates(), as: name ?? id("dev1"), hosts: hosts, switches: AttestationSwitches(),
                now: now)
            return nil
        } catch {
            return error
        }
    }

    @Test func takesAKeyOfTheDeviceInEitherSlot() throws {
        let secondary = try #require(keys(device)).secondary
        for key in [key, secondary] {
            let text = token("hub.example.net/devices/dev1", key)
            let principal = try hub.registry.authenticateDevice(
                token: text, certificates: ClientCertificates(), as: id("dev1"), hosts: hosts, switches: AttestationSwitches(), now: now)
            #expect(principal.method == .key && principal.expiry == now + 3600)
            #expect(principal.generationID == device.generationID)
        }
    }

    @Test(
        arguments: [
            ("hub.example.net/devices/dev1", nil), ("HUB.example.NET/devices/dev1", nil), ("other.example/devices/dev1", nil),
            ("hub.example.net:8443/devices/dev1", nil), ("hub.example.net/devices", nil), ("hub.example.net/devices/dev1/", nil),
            ("hub.example.net/device", .wrongAudience), ("hub.example.net/devices/dev", .wrongAudience),
            ("hub.example.net/devices/dev2", .wrongAudience), ("evil.example/devices/dev1", .wrongAudience),
            ("evil.example:8443/devices/dev1", .wrongAudience), ("hub.example.net/devices/dev1/modules/m", .wrongAudience),
        ] as [(String, Refusal?)])
    func looksAtTheAudience(resource: String, expected: Refusal?) {
        #expect(refusal(token(resource)) == expected)
    }

    @Test(arguments: [(3600, false), (0, false), (-299, false), (-301, true), (-3600, true)] as [(Int64, Bool)])
    func toleratesFiveMinutesOfClock(after: Int64, isRefused: Bool) {
        let expected: Refusal? = isRefused ? .expired(expiry: now + after) : nil
        #expect(refusal(token("hub.example.net/devices/dev1", expiry: now + after)) == expected)
    }

    @Test func refusesWhatProvesNothing() throws {
        let good = "hub.example.net/devices/dev1"
        #expect(refusal(nil) == .noCredential)
        #expect(refusal("") == .noCredential)
        #expect(refusal("Bearer abc") == .malformedToken)
        #expect(refusal("SharedAccessSignature sr=a&sig=b") == .malformedToken)
        let stranger = try #require(SymmetricKey.random())
        #expect(refusal(token(good, stranger)) == .wrongSignature)
        #expect(refusal(token(good), as: id("dev2")) == .unknownIdentity)
        #expect(refusal(token(good, policy: "nobody")) == .unknownPolicy)
        #expect(refusal(token(good, policy: "iothubowner")) == .wrongSignature)
        try hub.registry.perform(.setStatus(device: "dev1", .disabled, reason: nil))
        #expect(refusal(token(good)) == .disabled)
    }

    @Test func keepsModulesApartFromTheirDevice() throws {
        let module = try #require(keys(hub.put(id("dev1", "m")))).primary
        let resource = "hub.example.net/devices/dev1/modules/m"
        #expect(refusal(token(resource, module), as: id("dev1", "m")) == nil)
        #expect(refusal(token(resource), as: id("dev1", "m")) == .wrongSignature)
        #expect(refusal(token("hub.example.net/devices/dev1", module)) == .wrongSignature)
        try hub.registry.perform(.setStatus(device: "dev1", .disabled, reason: nil))
        #expect(refusal(token(resource, module), as: id("dev1", "m")) == .disabled)
    }

    @Test func letsAPolicySpeakAsAnyDevice() throws {
        let policy = try #require(try hub.registry.perform(.createPolicy(name: "device", .deviceConnect)).policy)
        let service = try #require(try hub.registry.perform(.createPolicy(name: "service", .serviceConnect)).policy)
        #expect(refusal(token("hub.example.net/devices", policy.secondaryKey, policy: "device")) == nil)
        #expect(refusal(token("hub.example.net/devices/dev1", policy.primaryKey, policy: "device")) == nil)
        #expect(refusal(token("hub.example.net/devices/dev2", policy.primaryKey, policy: "device")) == .wrongAudience)
        #expect(refusal(token("hub.example.net", policy.primaryKey, policy: "device"), as: id("gone")) == .unknownIdentity)
        #expect(refusal(token("hub.example.net", service.primaryKey, policy: "service")) == .missingRight(.deviceConnect))
    }

    @Test func checksThumbprintsOfEitherLengthAndCase() throws {
        let sha1 = "0123456789abcdef0123456789ABCDEF01234567"
        let sha256 = String(repeating: "aB", count: 32)
        try hub.put(id("x1")) {
            $0.authentication = AuthenticationRequest(primaryThumbprint: sha1.uppercased(), secondaryThumbprint: sha256)
        }
        let stored = try hub.registry.identity(id("x1")).authentication
        for (one, two, isGood) in [
            (sha1.lowercased(), "", true), ("", sha256.lowercased(), true), (sha1, sha256, true), (sha256, sha1, false),
            (String(sha1.dropLast()) + "8", sha256.lowercased() + "0", false), ("", "", false),
        ] {
            #expect(stored.accepts(sha1: one, sha256: two) == isGood, "\(one) \(two)")
        }
        #expect(refusal(token("hub.example.net/devices/x1"), as: id("x1")) == .wrongAttestation)
    }

    // MARK: - Services

    @Test(
        arguments: [
            ("iothubowner", .registryWrite, "devices/dev1", "hub.example.net", nil),
            ("registryReadWrite", .registryRead, "devices", "hub.example.net", nil),
            ("write", .registryRead, "devices", "hub.example.net", nil),
            ("registryRead", .registryWrite, "devices/dev1", "hub.example.net", 401002),
            ("service", .registryRead, "devices/dev1", "hub.example.net", 401002),
            ("service", .serviceConnect, "twins/dev1/streams/ssh", "hub.example.net:8443", nil),
            ("service", [.registryWrite, .serviceConnect], "configurations", "hub.example.net", nil),
            ("service", .serviceConnect, "twins/dev1", "hub.example.net/twins", nil),
            ("service", .serviceConnect, "twins/dev1", "hub.example.net/devices", 401003),
            ("service", .serviceConnect, "twins/dev1", "other.net", 401003),
        ] as [(String, Rights, String, String, Int?)])
    func asksAPolicyForItsRights(name: String, needed: Rights, path: String, resource: String, code: Int?) throws {
        let policies: [(String, String)] = [
            ("service", "ServiceConnect"), ("registryRead", "RegistryRead"), ("registryReadWrite", "registryread,REGISTRYWRITE"),
            ("write", "RegistryWrite"),
        ]
        for (name, rights) in policies { try hub.registry.perform(.createPolicy(name: name, Rights(parsing: rights))) }
        let text = token(resource, try hub.registry.policy(name).primaryKey, policy: name)
        do {
            let principal = try hub.registry.authenticateService(
                authorization: text, needing: needed, path: path, hosts: hosts, now: now)
            #expect(code == nil && principal.policy == name)
        } catch {
            #expect(error.error.code == code)
            #expect(error.error.httpStatus == 401)
        }
    }

    @Test func refusesADeviceTokenForAService() {
        #expect(throws: Refusal.unknownPolicy) {
            try hub.registry.authenticateService(
                authorization: token("hub.example.net"), needing: .registryRead, path: "devices", hosts: hosts, now: now)
        }
    }

    // MARK: - Policies

    @Test func beginsWithOnePolicy() throws {
        let policies = try hub.registry.policies()
        #expect(policies.map(\.name) == ["iothubowner"])
        #expect(policies.first?.rights == .all)
        #expect(policies.first?.json["rights"] == "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect")
    }

    @Test func keepsTheLastPolicyThatMayWrite() throws {
        let registry = hub.registry
        #expect(throws: RegistryError.self) { try registry.perform(.deletePolicy(name: "iothubowner", force: false)) }
        #expect(throws: RegistryError.self) { try registry.perform(.setRights(policy: "iothubowner", .registryRead)) }
        try registry.perform(.createPolicy(name: "second", .registryWrite))
        try registry.perform(.deletePolicy(name: "iothubowner", force: false))
        try registry.perform(.deletePolicy(name: "second", force: true))
        #expect(try registry.policies().isEmpty)
        #expect(throws: RegistryError.policyNotFound("second")) { try registry.perform(.rotatePolicy(name: "second", .swap)) }
    }

    @Test func rotatesAPolicyAndLogsIt() throws {
        let old = try hub.registry.policy("iothubowner")
        let before = try hub.registry.store.lastSequence()
        try hub.registry.perform(.rotatePolicy(name: "iothubowner", .primary))
        let new = try hub.registry.policy("iothubowner")
        #expect(new.primaryKey != old.primaryKey && new.secondaryKey == old.secondaryKey)
        #expect(try hub.changes(after: before).map(\.name) == ["iothubowner"])
        #expect(throws: RegistryError.policyAlreadyExists("iothubowner")) {
            try hub.registry.perform(.createPolicy(name: "iothubowner", .all))
        }
    }

    @Test(arguments: ["", "Nothing", "RegistryRead;Fly"]) func refusesUnknownRights(text: String) {
        #expect(throws: RegistryError.self) { try Rights(parsing: text) }
    }

    @Test(arguments: ["", "a b", String(repeating: "p", count: 65), "ü"]) func refusesBadPolicyNames(name: String) {
        #expect(throws: RegistryError.self) { try hub.registry.perform(.createPolicy(name: name, .all)) }
    }
}
