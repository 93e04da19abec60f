import Registry
import Store
import TLS
import Testing
import Wire

/// Authorities and the devices below them, by certificates that are made as they are needed.
@Suite struct AuthorityTests {
    static let now: Int64 = 1_700_000_000
    let hub: Hub
    let root: CertificateAuthority

    init() throws {
        hub = try Hub()
        root = try Self.authority("Root")
    }

    private static func authority(_ name: String) throws -> CertificateAuthority {
        let key = try PrivateKey(generating: .p256)
        return try CertificateAuthority(
            certificate: .root(commonName: name, key: key, seconds: 100_000, now: now), key: key)
    }

    private func leaf(_ name: String, by issuer: CertificateAuthority? = nil, seconds: Int64 = 50_000) throws -> Certificate {
        try (issuer ?? root).issue(
            .client, commonName: name, for: PrivateKey(generating: .p256), seconds: seconds, now: Self.now)
    }

    @discardableResult
    private func perform(_ command: AuthorityCommand) throws(RegistryError) -> Authority? {
        try hub.registry.perform(.authority(command), now: hub.now).authority
    }

    private func refusal(
        _ name: ClientIdentity, _ chain: [Certificate], token: String? = nil, after seconds: Int64 = 0,
        _ switches: AttestationSwitches = AttestationSwitches()
    ) -> String {
        do throws(Refusal) {
            let principal = try hub.registry.authenticateDevice(
                token: token, certificates: ClientCertificates(chain.map(\.der)), as: name, hosts: ["hub.example.net"],
                switches: switches, now: Self.now + seconds)
            return switch principal.method {
            case .authority(let name, _): "by \(name)"
            case .thumbprint: "by thumbprint"
            case .key: "by key"
            case .policy(let name): "by policy \(name)"
            }
        } catch {
            return error.description
        }
    }

    private func device(_ id: String, _ authentication: AuthenticationRequest) throws {
        let name = try #require(ClientIdentity(clientID: id))
        if name.moduleID != nil { try hub.put(try #require(ClientIdentity(deviceID: name.deviceID))) }
        try hub.put(name) { $0.authentication = authentication }
    }

    // MARK: - Proof of possession

    @Test func anAuthorityIsVerifiedByWhatItsKeyHasSigned() throws {
        let made = try #require(try perform(.put("plant", root.certificate, isVerified: nil, .absent)))
        #expect(!made.isVerified && made.verificationCode == nil)
        #expect(made.json["properties"]?["subject"] == "Root" && made.json["properties"]?["isVerified"] == false)
        #expect(throws: RegistryError.self) { try perform(.verify("plant", proof: leaf("x"), .absent)) }
        let code = try #require(try perform(.makeCode("plant", .etag(made.etag)))?.verificationCode)
        #expect(code.utf8.count == 48 && Hex.decode(code) != nil)
        let stranger = try Self.authority("Root")
        for proof in [try leaf(code.lowercased()), try leaf(code + "0"), try leaf(code, by: stranger), root.certificate] {
            do throws(RegistryError) {
                try perform(.verify("plant", proof: proof, .absent))
                Issue.record("was verified")
            } catch {
                #expect(error.httpStatus == 400)
            }
        }
        let verified = try #require(try perform(.verify("plant", proof: leaf(code), .absent)))
        #expect(verified.isVerified && verified.verificationCode == nil)
        #expect(throws: RegistryError.self) { try perform(.verify("plant", proof: leaf(code), .absent)) }
    }

    @Test func anotherCertificateUnderTheNameLosesTheVerification() throws {
        let made = try #require(try perform(.put("a", root.certificate, isVerified: true, .absent)))
        #expect(made.isVerified)
        #expect(throws: RegistryError.authorityAlreadyExists("a")) { try perform(.put("a", root.certificate, isVerified: nil, .absent)) }
        #expect(throws: RegistryError.preconditionFailed) { try perform(.put("a", root.certificate, isVerified: nil, .etag("x"))) }
        #expect(try perform(.put("a", root.certificate, isVerified: nil, .any))?.isVerified == true)
        let other = try Self.authority("Other").certificate
        #expect(try perform(.put("a", other, isVerified: nil, .any))?.isVerified == false)
        #expect(try perform(.put("a", other, isVerified: true, .any))?.isVerified == true)
        #expect(try perform(.put("a", other, isVerified: false, .any))?.isVerified == false)
        #expect(throws: RegistryError.preconditionFailed) { try perform(.delete("a", .etag("x"))) }
        try perform(.delete("a", .any))
        #expect(throws: RegistryError.authorityNotFound("a")) { try perform(.delete("a", .any)) }
        #expect(throws: RegistryError.authorityNotFound("a")) { try hub.registry.authority("a") }
    }

    @Test func onlyWhatTakesTrustAwayAsksForAnotherLook() throws {
        func asks(_ command: AuthorityCommand) throws -> Bool {
            let before = try hub.registry.store.lastSequence()
            try perform(command)
            return try hub.changes(after: before).contains { $0.kind == .authorityUpdated && $0.aspects.contains(.authentication) }
        }
        #expect(try !asks(.put("a", root.certificate, isVerified: true, .absent)))
        #expect(try !asks(.put("a", root.certificate, isVerified: nil, .any)))
        #expect(try !asks(.makeCode("a", .any)))
        #expect(try asks(.put("a", root.certificate, isVerified: false, .any)))
        #expect(try !asks(.put("a", root.certificate, isVerified: true, .any)))
        #expect(try asks(.put("a", Self.authority("Other").certificate, isVerified: true, .any)))
        #expect(try asks(.delete("a", .any)))
    }

    @Test func thereAreNoMoreThanTwentyFive() throws {
        for number in 1...25 { try perform(.put("a\(number)", root.certificate, isVerified: nil, .absent)) }
        #expect(throws: RegistryError.tooManyAuthorities) { try perform(.put("b", root.certificate, isVerified: nil, .absent)) }
        try perform(.put("a1", root.certificate, isVerified: true, .any))
        #expect(try hub.registry.authorities().count == 25)
    }

    @Test func onlyCAsHaveAName() throws {
        #expect(throws: RegistryError.self) { try perform(.put("a", leaf("d"), isVerified: true, .absent)) }
        for name in ["", "a b", "a/b", String(repeating: "x", count: 65)] {
            #expect(throws: RegistryError.self) { try perform(.put(name, root.certificate, isVerified: true, .absent)) }
        }
    }

    @Test func aCertificateIsReadAsToolsSendIt() throws {
        let pem = root.certificate.pem, der = Base64.encode(root.certificate.der)
        for text in [pem, der, Base64.encode(pem.utf8), der.prefix(64) + "\r\n" + der.dropFirst(64)] {
            #expect(try Authority.certificate(from: text).isSame(as: root.certificate))
        }
        for text in ["", "rubbish", "AAAA", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            #expect(throws: RegistryError.self) { try Authority.certificate(from: text) }
        }
    }

    // MARK: - Devices

    @Test func aDeviceComesInUnderAVerifiedAuthority() throws {
        try device("press-17", AuthenticationRequest(.certificateAuthority))
        let own = try leaf("press-17")
        #expect(refusal(id("press-17"), [own]) == "no-issuer")
        try perform(.put("plant", root.certificate, isVerified: false, .absent))
        #expect(refusal(id("press-17"), [own]) == "unverified-authority")
        try perform(.put("plant", root.certificate, isVerified: true, .any))
        #expect(refusal(id("press-17"), [own]) == "by plant")
        #expect(refusal(id("press-17"), []) == "no-credential")
        #expect(refusal(id("press-17"), [try leaf("Press-17")]) == "wrong-name")
        #expect(refusal(id("press-17"), [try leaf("press-18")]) == "wrong-name")
        #expect(refusal(id("press-17"), [try leaf("press-17", by: Self.authority("Root"))]) == "bad-signature")
        #expect(refusal(id("press-17"), [own], after: 60_000) == "expired")
        #expect(refusal(id("press-17"), [own], after: -600) == "not-yet-valid")
        #expect(refusal(id("press-18"), [own]) == "unknown-identity")
        try hub.registry.perform(.setStatus(device: "press-17", .disabled, reason: nil))
        #expect(refusal(id("press-17"), [own]) == "disabled")
        try hub.registry.perform(.setStatus(device: "press-17", .enabled, reason: nil))
        try perform(.delete("plant", .any))
        #expect(refusal(id("press-17"), [own]) == "no-issuer")
    }

    @Test func aModulesNameHasItsDevices() throws {
        try device("d/m", AuthenticationRequest(.certificateAuthority))
        try perform(.put("plant", root.certificate, isVerified: true, .absent))
        #expect(refusal(id("d", "m"), [try leaf("d/m")]) == "by plant")
        #expect(refusal(id("d", "m"), [try leaf("m")]) == "wrong-name")
        #expect(refusal(id("d", "m"), [try leaf("d")]) == "wrong-name")
        #expect(refusal(id("d"), [try leaf("d/m")]) == "wrong-attestation")
    }

    @Test func whatTheIdentityIsKnownByDecides() throws {
        let own = try leaf("d")
        try perform(.put("plant", root.certificate, isVerified: true, .absent))
        try device("ca", AuthenticationRequest(.certificateAuthority))
        try device("thumb", AuthenticationRequest(primaryThumbprint: own.sha256Thumbprint))
        try device("none", AuthenticationRequest(AuthenticationRequest.Kind.none))
        let keys = try #require(keys(try hub.put(id("sas"))))
        func token(_ device: String) -> String {
            SASToken.make(resource: "hub.example.net/devices/\(device)", key: keys.primary, expiry: Self.now + 60)
        }
        #expect(refusal(id("sas"), [own], token: token("sas")) == "by key")
        #expect(refusal(id("sas"), [own]) == "wrong-attestation")
        #expect(refusal(id("thumb"), [own], token: token("thumb")) == "by thumbprint")
        #expect(refusal(id("thumb"), [own], token: "rubbish") == "by thumbprint")
        #expect(refusal(id("thumb"), [], token: token("thumb")) == "wrong-attestation")
        #expect(refusal(id("thumb"), [try leaf("d")], token: token("thumb")) == "wrong-certificate")
        #expect(refusal(id("ca"), [try leaf("ca")], token: token("ca")) == "by plant")
        #expect(refusal(id("ca"), [own], token: token("ca")) == "wrong-name")
        #expect(refusal(id("none"), [own], token: token("none")) == "wrong-attestation")
        let policy = try #require(try hub.registry.perform(.createPolicy(name: "p", .deviceConnect)).policy)
        let speaking = SASToken.make(
            resource: "hub.example.net/devices", key: policy.primaryKey, expiry: Self.now + 60, policy: "p")
        #expect(refusal(id("ca"), [], token: speaking) == "by policy p")
        #expect(refusal(id("thumb"), [own], token: speaking) == "by thumbprint")
    }

    @Test func switchesRefuseWhatIsRight() throws {
        try perform(.put("plant", root.certificate, isVerified: true, .absent))
        try device("ca", AuthenticationRequest(.certificateAuthority))
        let device = try #require(keys(try hub.put(id("d")))), module = try #require(keys(try hub.put(id("d", "m"))))
        let policy = try #require(try hub.registry.perform(.createPolicy(name: "p", .all)).policy)
        let tokens = [
            SASToken.make(resource: "hub.example.net/devices/d", key: device.primary, expiry: Self.now + 60),
            SASToken.make(resource: "hub.example.net/devices/d/modules/m", key: module.primary, expiry: Self.now + 60),
            SASToken.make(resource: "hub.example.net", key: policy.primaryKey, expiry: Self.now + 60, policy: "p"),
        ]
        func verdicts(_ change: (inout AttestationSwitches) -> Void) throws -> [String] {
            var switches = AttestationSwitches()
            change(&switches)
            return [
                refusal(id("d"), [], token: tokens[0], switches), refusal(id("d", "m"), [], token: tokens[1], switches),
                refusal(id("d"), [], token: tokens[2], switches), refusal(id("ca"), [try leaf("ca")], switches),
            ]
        }
        let off = "switched-off"
        #expect(try verdicts { _ in } == ["by key", "by key", "by policy p", "by plant"])
        #expect(try verdicts { $0.disablesDeviceSAS = true } == [off, "by key", "by policy p", "by plant"])
        #expect(try verdicts { $0.disablesModuleSAS = true } == ["by key", off, "by policy p", "by plant"])
        #expect(try verdicts { $0.disablesLocalAuth = true } == ["by key", "by key", off, "by plant"])
        #expect(try verdicts { $0.refusesAuthorities = true } == ["by key", "by key", "by policy p", off])
        var switches = AttestationSwitches()
        switches.disablesLocalAuth = true
        #expect(throws: Refusal.switchedOff("disable-local-auth")) {
            try hub.registry.authenticateService(
                authorization: tokens[2], needing: .registryRead, path: "devices", hosts: ["hub.example.net"], switches: switches,
                now: Self.now)
        }
    }

    @Test func anotherLookAtAConnectionCostsNoSignature() throws {
        let shown = ClientCertificates([try leaf("d").der])
        let found = try shown.judge(name: "d", authorities: [root.certificate], at: Self.now)
        #expect(found.isSame(as: root.certificate))
        let stranger = try Self.authority("Root").certificate
        let again = ClientCertificates(shown.der)
        #expect(try again.judge(name: "d", authorities: [root.certificate], at: Self.now).isSame(as: root.certificate))
        #expect(throws: ChainFault.self) { try ClientCertificates(shown.der).judge(name: "d", authorities: [stranger], at: Self.now) }
        #expect(throws: ChainFault.self) {
            try ClientCertificates(shown.der).judge(name: "e", authorities: [root.certificate], at: Self.now)
        }
        shown.keepLeaf()
        #expect(try shown.judge(name: "d", authorities: [stranger, root.certificate], at: Self.now + 1).isSame(as: root.certificate))
        #expect(throws: ChainFault.self) { try shown.judge(name: "d", authorities: [stranger], at: Self.now) }
        #expect(throws: ChainFault.self) { try shown.judge(name: "e", authorities: [root.certificate], at: Self.now) }
        #expect(throws: ChainFault.self) { try shown.judge(name: "d", authorities: [root.certificate], at: Self.now + 50_001) }
        #expect(throws: ChainFault.self) { try ClientCertificates().judge(name: "d", authorities: [], at: Self.now) }
        #expect(throws: ChainFault.self) { try ClientCertificates([[1, 2, 3]]).judge(name: "d", authorities: [], at: Self.now) }
    }
}
