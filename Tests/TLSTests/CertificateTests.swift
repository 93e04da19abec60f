import Testing

@testable import TLS

/// 2026-01-01T00:00:00Z.
private let now: Int64 = 1_767_225_600
private let day: Int64 = 86_400

/// A root, an intermediate below it, and what a test hangs below that.
private struct House {
    let root: CertificateAuthority
    let middle: CertificateAuthority

    init(_ algorithm: KeyAlgorithm = .p256) throws {
        let key = try PrivateKey(generating: algorithm)
        root = try CertificateAuthority(certificate: .root(commonName: "Root", key: key, seconds: 100 * day, now: now), key: key)
        let below = try PrivateKey(generating: algorithm)
        let certificate = try root.issue(.intermediate(pathLength: 0), commonName: "Middle", for: below, seconds: 50 * day, now: now)
        middle = try CertificateAuthority(certificate: certificate, key: below)
    }

    func server(_ names: [String], days: Int64 = 10) throws -> CertificateChain {
        let names = try names.map { try AlternativeName($0) }
        let key = try PrivateKey(generating: .p256)
        let leaf = try middle.issue(.server(names: names), commonName: "server", for: key, seconds: days * day, now: now)
        return CertificateChain(leaf: leaf, others: [middle.certificate])
    }

    func device(_ id: String) throws -> CertificateChain {
        let key = try PrivateKey(generating: .p256)
        let leaf = try middle.issue(.client, commonName: id, for: key, seconds: 10 * day, now: now)
        return CertificateChain(leaf: leaf, others: [middle.certificate])
    }
}

@Suite struct IssuingTests {
    @Test(arguments: KeyAlgorithm.allCases) func everyAlgorithmMakesAChainThatHoldsStrictly(_ algorithm: KeyAlgorithm) throws {
        let house = try House(algorithm)
        let chain = try house.server(["hub.example"])
        let purpose = CertificatePurpose.server(name: .dns("hub.example"))
        let way = try chain.verify(anchors: [house.root.certificate], purpose: purpose, time: now, strict: true)
        #expect(way.map(\.subject) == ["CN=server", "CN=Middle", "CN=Root"])
    }

    @Test func aRootSaysWhatARootMustSay() throws {
        let root = try House().root.certificate
        #expect(root.isCA && root.isSelfSigned && root.pathLength == nil)
        #expect(root.keyUsage == [.keyCertSign, .cRLSign])
        #expect(root.extendedKeyUsage == nil)
        #expect(root.subject == "CN=Root" && root.issuer == "CN=Root")
        #expect(root.publicKeyAlgorithm == "EC P-256" && root.publicKeyBits == 256)
        #expect(root.subjectKeyIdentifier != nil && root.subjectKeyIdentifier == root.authorityKeyIdentifier)
        #expect(root.notBefore == now - 300 && root.notAfter == now + 100 * day)
    }

    @Test func aServerHasItsNamesAndAServersUsage() throws {
        let leaf = try House().server(["hub.example", "*.hub.example", "192.0.2.7", "2001:db8::1"]).leaf
        #expect(leaf.alternativeNames.map(\.description) == ["hub.example", "*.hub.example", "192.0.2.7", "2001:db8::1"])
        #expect(leaf.extendedKeyUsage == ["serverAuth"])
        #expect(leaf.keyUsage == [.digitalSignature])
        #expect(!leaf.isCA)
    }

    @Test func anRSAServerMayEncipherKeys() throws {
        let leaf = try House().middle.issue(
            .server(names: [.dns("a")]), commonName: "a", for: PrivateKey(generating: .rsa2048), seconds: day, now: now)
        #expect(leaf.keyUsage == [.digitalSignature, .keyEncipherment])
        #expect(leaf.publicKeyAlgorithm == "RSA" && leaf.publicKeyBits == 2048)
    }

    @Test(arguments: ["press-17", "a%b:c*", "O'Reilly@x", "ÄÖ"]) func aDeviceIsNamedExactly(_ id: String) throws {
        let leaf = try House().device(id).leaf
        #expect(leaf.commonName == id)
        #expect(leaf.extendedKeyUsage == ["clientAuth"])
    }

    @Test func serialNumbersArePositiveRandomAndFitTwentyBytes() throws {
        let house = try House()
        var seen: Set<String> = []
        for _ in 0..<50 {
            let serial = try house.device("d").leaf.serial
            #expect(!serial.hasPrefix("-") && serial.utf8.count <= 40 && serial.utf8.count > 20)
            #expect(serial.utf8.count < 40 || "01234567".contains(serial.prefix(1)))
            seen.insert(serial)
        }
        #expect(seen.count == 50)
    }

    @Test func theIssuersEndCapsTheChilds() throws {
        let house = try House()
        #expect(try house.server(["a"], days: 1000).leaf.notAfter == house.middle.certificate.notAfter)
    }

    @Test func datesBeyond2050AreWrittenAndRead() throws {
        let key = try PrivateKey(generating: .p256)
        let root = try Certificate.root(commonName: "far", key: key, seconds: 36500 * day, now: now)
        #expect(root.notAfter == now + 36500 * day)
        #expect(CertificateTime.text(root.notAfter) == "2125-12-08T00:00:00Z")
        let last = try Certificate.root(commonName: "last", key: key, seconds: .max, now: now)
        #expect(CertificateTime.text(last.notAfter) == "9999-12-31T23:59:59Z")
    }

    @Test func anExpiredIssuerIssuesNothing() throws {
        let house = try House()
        #expect(throws: CertificateError.self) {
            try house.root.issue(.client, commonName: "d", for: house.middle.key, seconds: day, now: now + 200 * day)
        }
    }

    @Test func noCAFollowsBelowPathLengthZero() throws {
        let house = try House()
        let key = try PrivateKey(generating: .p256)
        #expect(throws: CertificateError.issuer("CN=Middle has path length 0: no CA may follow below it")) {
            try house.middle.issue(.intermediate(pathLength: 0), commonName: "x", for: key, seconds: day, now: now)
        }
    }

    @Test func aLeafIsNoAuthority() throws {
        let house = try House()
        let key = try PrivateKey(generating: .p256)
        let leaf = try house.root.issue(.client, commonName: "d", for: key, seconds: day, now: now)
        #expect(throws: CertificateError.issuer("CN=d is not a CA")) { try CertificateAuthority(certificate: leaf, key: key) }
        #expect(throws: CertificateError.keyMismatch) { try CertificateAuthority(certificate: house.root.certificate, key: key) }
    }

    @Test(arguments: ["", String(repeating: "x", count: 65), "a\nb", "a\u{0}b"]) func aNameThatDoesNotFitIsRefused(_ name: String) throws {
        let key = try PrivateKey(generating: .p256)
        #expect(throws: CertificateError.self) { try Certificate.root(commonName: name, key: key, seconds: day, now: now) }
    }

    @Test func renewalKeepsKeyNamesAndUsages() throws {
        let house = try House()
        let old = try house.server(["hub.example", "192.0.2.7"]).leaf
        let new = try house.middle.renew(old, seconds: 20 * day, now: now + 5 * day)
        #expect(new.alternativeNames == old.alternativeNames && new.subject == old.subject)
        #expect(new.keyUsage == old.keyUsage && new.extendedKeyUsage == old.extendedKeyUsage)
        #expect(new.subjectKeyIdentifier == old.subjectKeyIdentifier)
        #expect(new.authorityKeyIdentifier == old.authorityKeyIdentifier)
        #expect(new.serial != old.serial && new.notAfter == now + 25 * day)
    }

    @Test func whatARootIssuedOutlivesItsRenewal() throws {
        let house = try House()
        let renewed = try house.root.certificate.renewedBySelf(key: house.root.key, seconds: 500 * day, now: now)
        let chain = try house.server(["a"])
        #expect(try chain.verify(anchors: [renewed], purpose: .any, time: now, strict: true).count == 3)
    }
}

@Suite struct ReadingTests {
    @Test func pemAndDERComeBackUnchanged() throws {
        let certificate = try House().root.certificate
        #expect(try Certificate(der: certificate.der).isSame(as: certificate))
        #expect(try Certificate(pem: Array(certificate.pem.utf8)).isSame(as: certificate))
        #expect(certificate.sha1Thumbprint.utf8.count == 40 && certificate.sha256Thumbprint.utf8.count == 64)
    }

    @Test(arguments: KeyAlgorithm.allCases) func aKeyComesBackFromItsPEM(_ algorithm: KeyAlgorithm) throws {
        let key = try PrivateKey(generating: algorithm)
        let pem = try key.pem()
        #expect(String(decoding: pem, as: UTF8.self).hasPrefix("-----BEGIN PRIVATE KEY-----"))
        let again = try PrivateKey(pem: pem)
        let certificate = try Certificate.root(commonName: "x", key: key, seconds: day, now: now)
        #expect(again.matches(certificate))
        #expect(try !PrivateKey(generating: algorithm).matches(certificate))
    }

    @Test func everyCutOfACertificateIsAnErrorAndNoCrash() throws {
        let certificate = try House().root.certificate
        let der = certificate.der
        for count in 0..<der.count {
            #expect(throws: CertificateError.self) { try Certificate(der: Array(der.prefix(count))) }
        }
        #expect(throws: CertificateError.self) { try Certificate(der: der + [0]) }
        let pem = Array(certificate.pem.utf8)
        for count in 0..<(pem.count - 2) {
            #expect(throws: CertificateError.self) { try CertificateChain(bytes: Array(pem.prefix(count))) }
        }
    }

    @Test func everyFlippedByteIsReadOrRefusedButNeverTrusted() throws {
        let house = try House()
        let leaf = try house.device("d").leaf
        let middle = house.middle.certificate
        for index in leaf.der.indices {
            var bytes = leaf.der
            bytes[index] ^= 0x01
            guard let changed = try? Certificate(der: bytes) else { continue }
            _ = (changed.subject, changed.commonName, changed.alternativeNames, changed.extendedKeyUsage, changed.keyUsage)
            #expect(throws: ChainFailure.self) {
                try CertificateChain(leaf: changed, others: [middle]).verify(
                    anchors: [house.root.certificate], purpose: .client, time: now)
            }
        }
    }

    @Test func aBundleKeepsItsOrderAndSkipsWhatIsNoCertificate() throws {
        let house = try House()
        let key = String(decoding: try house.root.key.pem(), as: UTF8.self)
        let text = "a comment\n" + house.middle.certificate.pem + key + house.root.certificate.pem + "the end\n"
        let chain = try CertificateChain(bytes: Array(text.utf8))
        #expect(chain.certificates.map(\.subject) == ["CN=Middle", "CN=Root"])
    }

    @Test func aDamagedSecondCertificateSpoilsTheFile() throws {
        let pem = try House().root.certificate.pem
        let broken = pem.replacing("MII", with: "AII")
        #expect(broken != pem || pem.contains("MIIB") == false)
        #expect(throws: CertificateError.self) { try CertificateChain(bytes: Array((pem + "-----BEGIN CERTIFICATE-----\nAAAA\n").utf8)) }
    }

    @Test(
        arguments: [
            ("", CertificateError.noPrivateKey), ("rubbish", .noPrivateKey),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n", .encryptedKey),
        ]) func textsThatAreNoKeyAreTold(_ text: String, _ verdict: CertificateError)
    {
        #expect(throws: verdict) { try PrivateKey(pem: Array(text.utf8)) }
    }

    @Test func filesThatCannotBeReadAreTold() {
        #expect(throws: CertificateError.unreadable(path: "/nowhere/x", code: 2)) { try CertificateChain(path: "/nowhere/x") }
        #expect(throws: CertificateError.unreadable(path: "/tmp", code: 21)) { try PrivateKey(path: "/tmp") }
        #expect(throws: CertificateError.tooLarge(limit: CredentialFile.limit)) { try CertificateChain(path: "/dev/zero") }
    }

    @Test(
        arguments: [
            ("hub.example.", "hub.example"), ("localhost", "localhost"), ("*.a.b", "*.a.b"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"), ("under_score.local", "under_score.local"),
        ]) func namesOfServersAreUnderstood(_ text: String, _ name: String) throws
    {
        #expect(try AlternativeName(text).description == name)
    }

    @Test(arguments: ["", ".", "a..b", "*", "*.", "a.*.b", "bücher.example", "a b", "-a", "a-", "a/b", "DNS:x", "a,b", "x\n"])
    func namesNoServerHasAreRefused(_ text: String) {
        #expect(throws: CertificateError.self) { try AlternativeName(text) }
    }
}

@Suite struct VerificationTests {
    private func faults(
        _ chain: CertificateChain, _ anchors: [Certificate], _ purpose: CertificatePurpose = .any, at time: Int64 = now
    ) -> [ChainFault] {
        do throws(ChainFailure) {
            _ = try chain.verify(anchors: anchors, purpose: purpose, time: time)
            return []
        } catch { return error.reasons }
    }

    @Test func timeIsJudgedForEveryCertificateOfTheChain() throws {
        let house = try House()
        let chain = try house.server(["a"])
        let root = house.root.certificate
        let late = faults(chain, [root], at: now + 11 * day)
        #expect(late == [.expired(subject: "CN=server", at: now + 10 * day)])
        #expect(late.first?.description == "CN=server expired on 2026-01-11T00:00:00Z")
        #expect(faults(chain, [root], at: now + 60 * day).contains(.expired(subject: "CN=Middle", at: now + 50 * day)))
        #expect(faults(chain, [root], at: now - day).contains(.notYetValid(subject: "CN=server", from: now - 300)))
    }

    @Test func aMissingIntermediateIsNamed() throws {
        let house = try House()
        let chain = CertificateChain(leaf: try house.server(["a"]).leaf, others: [])
        #expect(faults(chain, [house.root.certificate]) == [.unknownIssuer(subject: "CN=server", issuer: "CN=Middle")])
        #expect(faults(chain, [house.middle.certificate]) == [])
    }

    @Test func anotherRootOfTheSameNameIsNotTheIssuer() throws {
        let house = try House()
        let other = try House()
        #expect(faults(try house.server(["a"]), [other.root.certificate]) == [.badSignature(subject: "CN=Middle", issuer: "CN=Root")])
    }

    @Test func aPresentedRootIsNotTrustedForThat() throws {
        let house = try House()
        let key = try PrivateKey(generating: .p256)
        let stranger = try Certificate.root(commonName: "Stranger", key: key, seconds: day, now: now)
        let chain = CertificateChain(leaf: try house.server(["a"]).leaf, others: [house.middle.certificate, house.root.certificate])
        #expect(faults(chain, [stranger]) == [.untrustedRoot(subject: "CN=Root")])
    }

    @Test func purposesAreKeptApart() throws {
        let house = try House()
        let root = [house.root.certificate]
        #expect(faults(try house.server(["a"]), root, .server(name: nil)) == [])
        #expect(faults(try house.device("d"), root, .client) == [])
        #expect(faults(try house.server(["a"]), root, .client).first.map { "\($0)" }?.contains("not made for a TLS client") == true)
        #expect(
            faults(try house.device("d"), root, .server(name: nil)).first.map { "\($0)" }?.contains("not made for a TLS server") == true)
    }

    @Test(
        arguments: [
            ("hub.example", true), ("HUB.example", true), ("a.wild.example", true), ("a.b.wild.example", false), ("wild.example", false),
            ("192.0.2.7", true), ("192.0.2.8", false), ("::1", true), ("server", false),
        ]) func onlyAlternativeNamesCount(_ name: String, _ fits: Bool) throws
    {
        let house = try House()
        let chain = try house.server(["hub.example", "*.wild.example", "192.0.2.7", "::1"])
        let found = faults(chain, [house.root.certificate], .server(name: try AlternativeName(name)))
        #expect(found.isEmpty == fits)
        if !fits {
            let names = ["hub.example", "*.wild.example", "192.0.2.7", "::1"]
            #expect(found == [.nameMismatch(wanted: name, names: names)])
        }
    }

    @Test func subjectsAreSafeToPrint() throws {
        let key = try PrivateKey(generating: .p256)
        let root = try Certificate.root(commonName: "a,b+c=\"d\"\u{85}é", key: key, seconds: day, now: now)
        #expect(!root.subject.unicodeScalars.contains { $0.value < 0x20 })
        #expect(root.commonName == "a,b+c=\"d\"\u{85}é")
    }
}
