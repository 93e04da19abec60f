import TLS
import Testing
import Wire

@testable import Enrollments

private let now: Int64 = 1_700_000_000
private let year: Int64 = 365 * 86400

/// A root, an intermediate below it, and leaves of either.
private struct Tree {
    let key: PrivateKey
    let root, middle: CertificateAuthority

    init() throws {
        key = try PrivateKey(generating: .p256)
        let top = try PrivateKey(generating: .p256), low = try PrivateKey(generating: .p256)
        root = try CertificateAuthority(certificate: .root(commonName: "Root", key: top, seconds: 9 * year, now: now), key: top)
        middle = try CertificateAuthority(
            certificate: root.issue(.intermediate(pathLength: 0), commonName: "Middle", for: low, seconds: year, now: now), key: low)
    }

    func leaf(_ name: String, by authority: CertificateAuthority? = nil, seconds: Int64 = 86400) throws -> Certificate {
        try (authority ?? middle).issue(.client, commonName: name, for: key, seconds: seconds, now: now)
    }
}

extension Certificate {
    fileprivate var text: JSONValue { .string(pem) }
}

@Suite struct MatchingTests {
    private func refusal(_ body: () throws(EnrollmentRefusal) -> Admission) -> String? {
        do throws(EnrollmentRefusal) {
            _ = try body()
            return nil
        } catch { return error.code }
    }

    private func show(_ service: Service, _ id: String, _ chain: [Certificate], at time: Int64 = now) -> String? {
        refusal { () throws(EnrollmentRefusal) in
            try service.enrollments.authenticate(
                registrationID: id, token: nil, certificates: ClientCertificates(chain.map(\.der)), scope: "0ne00012345", now: time)
        }
    }

    // MARK: - Symmetric keys

    @Test func eitherKeyOfAnIndividualEnrollmentWillDo() throws {
        let service = try Service()
        try service.put(.individual, "Press-07", Service.symmetric())
        let (first, second) = (try #require(SymmetricKey(base64: Service.key)), try #require(SymmetricKey(base64: Service.otherKey)))
        for key in [first, second] {
            #expect(refusal { () throws(EnrollmentRefusal) in try service.admit("press-07", token: Service.token("press-07", key)) } == nil)
        }
        let other = try #require(SymmetricKey.random())
        func code(_ token: String, as id: String = "press-07", scope: String = "0ne00012345") -> String? {
            refusal { () throws(EnrollmentRefusal) in
                try service.enrollments.authenticate(
                    registrationID: id, token: token, certificates: ClientCertificates(), scope: scope, now: now)
            }
        }
        #expect(code(Service.token("press-07", other)) == "wrong-signature")
        #expect(code(Service.token("press-08", first)) == "wrong-audience")
        #expect(code(Service.token("press-07", first, scope: "0ne00000000")) == "wrong-audience")
        #expect(code(Service.token("press-07", first, expiry: now - 600)) == "expired-token")
        #expect(code(Service.token("press-07", first, expiry: now - 200)) == nil)
        #expect(code(Service.token("press-07", first), scope: "0ne00000000") == "unknown-scope")
        #expect(code("") == "no-credential")
        #expect(code("SharedAccessSignature sr=x") == "malformed-token")
        #expect(code(Service.token("press-07", first) + "&skn=registration") == nil)
        #expect(code(Service.token("press-07", first) + "&skn=") == nil)
        #expect(code(Service.token("press-07", first) + "&skn=owner") == "malformed-token")
        #expect(code(Service.token("press-07", first), as: "press 07") == "malformed-id")
        // As one client does it: the whole resource in lower case before it is signed, and escapes of either case.
        let lower = SASToken.make(resource: "0ne00012345/registrations/press-07".lowercased(), key: first, expiry: now + 60)
        #expect(code(lower, as: "PRESS-07") == nil)
    }

    @Test func aMemberOfAGroupShowsADerivedKeyAndNeverTheGroupsOwn() throws {
        let service = try Service()
        try service.put(.group, "line-a", Service.symmetric())
        let (first, second) = (try #require(SymmetricKey(base64: Service.key)), try #require(SymmetricKey(base64: Service.otherKey)))
        for key in [first, second] {
            let derived = try #require(key.derived(for: "dev-1"))
            let admission = try service.admit("dev-1", token: Service.token("dev-1", derived))
            #expect(admission.enrollment.name.id == "line-a")
            #expect(admission.attestation == ["enrollmentGroupId": "line-a"])
            #expect(admission.authentication["symmetricKey"]?["primaryKey"]?.string == first.derived(for: "dev-1")?.base64)
            #expect(admission.authentication["symmetricKey"]?["secondaryKey"]?.string == second.derived(for: "dev-1")?.base64)
            #expect(
                refusal { () throws(EnrollmentRefusal) in try service.admit("dev-1", token: Service.token("dev-1", key)) }
                    == "no-enrollment")
        }
        // Derived from the id in lower case, connected with another.
        let lower = try #require(first.derived(for: "press-07"))
        let admission = try service.admit("Press-07", token: Service.token("Press-07", lower))
        #expect(admission.authentication["symmetricKey"]?["primaryKey"]?.string == lower.base64)
    }

    @Test func theFirstOfTwoGroupsWithOneKeyTakesItAndADisabledOneRefuses() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key)?.derived(for: "d"))
        try service.put(.group, "b", Service.symmetric())
        try service.put(.group, "a", Service.symmetric())
        #expect(try service.admit("d", token: Service.token("d", key)).enrollment.name.id == "a")
        try service.put(.group, "a", Service.symmetric(["provisioningStatus": "disabled"]))
        #expect(refusal { () throws(EnrollmentRefusal) in try service.admit("d", token: Service.token("d", key)) } == "disabled")
    }

    @Test func aDisabledIndividualEnrollmentBlocksAMemberOfAGroup() throws {
        let service = try Service(), key = try #require(SymmetricKey(base64: Service.key)?.derived(for: "stolen"))
        try service.put(.group, "line-a", Service.symmetric())
        try service.put(.individual, "STOLEN", ["attestation": ["type": "symmetricKey"], "provisioningStatus": "disabled"])
        #expect(refusal { () throws(EnrollmentRefusal) in try service.admit("stolen", token: Service.token("stolen", key)) } == "disabled")
        // One that is enabled decides alone, too: the group's key is another's.
        try service.put(.individual, "stolen", ["attestation": ["type": "symmetricKey"]])
        #expect(
            refusal { () throws(EnrollmentRefusal) in try service.admit("stolen", token: Service.token("stolen", key)) }
                == "wrong-signature")
    }

    @Test func tpmIsKeptAndRefused() throws {
        let service = try Service()
        let document: JSONValue = ["attestation": ["type": "tpm", "tpm": ["endorsementKey": "AToAAQALAAMAsgAg"]]]
        let stored = try service.put(.individual, "t", document)
        #expect(stored.json()["attestation"] == document["attestation"])
        let key = try #require(SymmetricKey.random())
        #expect(refusal { () throws(EnrollmentRefusal) in try service.admit("t", token: Service.token("t", key)) } == "tpm")
        #expect(throws: EnrollmentError.invalid("an enrollment group cannot attest by tpm")) { try service.put(.group, "t", document) }
    }

    // MARK: - Certificates

    @Test func anEnrolledLeafIsTakenInEitherSlotAndNoOther() throws {
        let service = try Service(), tree = try Tree()
        let (one, two, three) = (try tree.leaf("press-07"), try tree.leaf("press-07"), try tree.leaf("press-07"))
        try service.put(
            .individual, "press-07",
            [
                "attestation": [
                    "type": "x509",
                    "x509": [
                        "clientCertificates": [
                            "primary": ["certificate": one.text], "secondary": ["certificate": .string(Base64.encode(two.der))],
                        ]
                    ],
                ]
            ])
        #expect(show(service, "press-07", [one]) == nil)
        #expect(show(service, "press-07", [two, tree.middle.certificate]) == nil)
        #expect(show(service, "press-07", [three]) == "wrong-certificate")
        #expect(show(service, "press-07", [one], at: now + 2 * 86400) == "expired")
        #expect(show(service, "press-07", [one], at: now - 86400) == "not-yet-valid")
        #expect(show(service, "press-07", []) == "no-credential")
        let admission = try service.enrollments.authenticate(
            registrationID: "press-07", token: nil, certificates: ClientCertificates([one.der]), scope: "0ne00012345", now: now)
        #expect(admission.authentication["type"] == "selfSigned")
        #expect(admission.authentication["x509Thumbprint"]?["primaryThumbprint"]?.string == one.sha256Thumbprint)
        #expect(admission.attestation["certificateInfo"]?["sha1Thumbprint"]?.string == one.sha1Thumbprint)
    }

    @Test func anIndividualEnrollmentMayNameASigner() throws {
        let service = try Service(), tree = try Tree()
        try service.put(
            .individual, "press-07",
            ["attestation": ["type": "x509", "x509": ["signingCertificates": ["primary": ["certificate": tree.middle.certificate.text]]]]])
        #expect(show(service, "press-07", [try tree.leaf("press-07")]) == nil)
        #expect(show(service, "press-07", [try tree.leaf("press-08")]) == "wrong-name")
        #expect(show(service, "press-07", [try tree.leaf("press-07", by: tree.root)]) == "no-issuer")
    }

    private func signed(_ certificate: Certificate, _ members: JSONValue = [:]) -> JSONValue {
        var document = members
        document["attestation"] = ["type": "x509", "x509": ["signingCertificates": ["primary": ["certificate": certificate.text]]]]
        return document
    }

    private func upload(_ service: Service, _ name: String, _ certificate: Certificate, verified: Bool = true) throws {
        try service.enrollments.perform(.putCertificate(name: name, certificate, isVerified: verified, .absent))
    }

    @Test func aGroupTakesWhatItsCertificateSignedOnceItIsVouchedFor() throws {
        let service = try Service(), tree = try Tree(), leaf = try Tree().leaf("dev")
        let (own, middle, root) = (try tree.leaf("dev"), tree.middle.certificate, tree.root.certificate)
        try service.put(.group, "line", signed(middle))
        #expect(show(service, "dev", [own, middle]) == "unverified")
        try upload(service, "root", root, verified: false)
        #expect(show(service, "dev", [own, middle]) == "unverified")
        try upload(service, "root", root)
        for chain in [[own], [own, middle], [own, middle, root]] { #expect(show(service, "dev", chain) == nil) }
        #expect(show(service, "DEV", [own]) == nil)
        #expect(show(service, "other", [own]) == "wrong-name")
        #expect(show(service, "dev", [leaf]) == "bad-signature")
        #expect(show(service, "dev", [own], at: now + 2 * year) == "expired")
        #expect(show(service, "middle", [middle]) == "is-a-ca")
    }

    @Test func aReferenceCountsOnceItsCertificateIsVerified() throws {
        let service = try Service(), tree = try Tree()
        try upload(service, "Root", tree.root.certificate, verified: false)
        let document: JSONValue = ["attestation": ["type": "x509", "x509": ["caReferences": ["primary": "root"]]]]
        try service.put(.group, "line", document)
        let chain = [try tree.leaf("dev"), tree.middle.certificate]
        #expect(show(service, "dev", chain) == "no-issuer")
        try upload(service, "Root", tree.root.certificate)
        #expect(show(service, "dev", chain) == nil)
        #expect(show(service, "dev", [chain[0]]) == "no-issuer")
        #expect(throws: EnrollmentError.conflict("enrollment group line refers to certificate root")) {
            try service.enrollments.perform(.deleteCertificate(name: "root", .any))
        }
    }

    @Test func theNearestGroupDecidesAndADisabledOneBlocks() throws {
        let service = try Service(), tree = try Tree()
        try upload(service, "root", tree.root.certificate)
        try service.put(.group, "all", ["attestation": ["type": "x509", "x509": ["caReferences": ["primary": "root"]]]])
        try service.put(.group, "few", signed(tree.middle.certificate))
        let chain = [try tree.leaf("dev"), tree.middle.certificate, tree.root.certificate]
        for chain in [chain, Array(chain.prefix(2)), Array(chain.prefix(1))] {
            let admission = try service.enrollments.authenticate(
                registrationID: "dev", token: "", certificates: ClientCertificates(chain.map(\.der)), scope: "0ne00012345", now: now)
            #expect(admission.enrollment.name.id == "few")
        }
        try service.put(.group, "few", signed(tree.middle.certificate, ["provisioningStatus": "disabled"]))
        #expect(show(service, "dev", chain) == "disabled")
        #expect(show(service, "dev", [try tree.leaf("dev", by: tree.root)]) == nil)
        try service.enrollments.perform(.delete(try EnrollmentName(.group, "FEW"), .any))
        #expect(show(service, "dev", chain) == nil)
    }

    @Test func aConnectionThatAsksAgainIsJudgedByTheGroupsOfNow() throws {
        let service = try Service(), tree = try Tree()
        try upload(service, "root", tree.root.certificate)
        try service.put(.group, "all", ["attestation": ["type": "x509", "x509": ["caReferences": ["primary": "root"]]]])
        let shown = ClientCertificates([try tree.leaf("Dev"), tree.middle.certificate].map(\.der))
        func ask(at time: Int64 = now) -> String? {
            refusal { () throws(EnrollmentRefusal) in
                try service.enrollments.authenticate(
                    registrationID: "dev", token: nil, certificates: shown, scope: "0ne00012345", now: time)
            }
        }
        #expect(ask() == nil && shown.proof?.authority == tree.root.certificate.sha256Thumbprint)
        #expect(ask() == nil && ask(at: now + 2 * 86400) == "expired")
        try service.put(.group, "few", signed(tree.middle.certificate, ["provisioningStatus": "disabled"]))
        #expect(ask() == "disabled")
        try service.enrollments.perform(.delete(try EnrollmentName(.group, "few"), .any))
        #expect(ask() == nil)
        try service.enrollments.perform(.delete(try EnrollmentName(.group, "all"), .any))
        #expect(ask() == "no-issuer")
    }

    @Test func aCertificateIsVerifiedByOneThatItsKeySigned() throws {
        let service = try Service(), tree = try Tree(), enrollments = service.enrollments
        try upload(service, "root", tree.root.certificate, verified: false)
        func state() throws -> ServiceCertificate { try #require(try enrollments.certificates().first) }
        #expect(throws: EnrollmentError.self) {
            try enrollments.perform(.verifyCertificate(name: "root", by: try tree.leaf("x", by: tree.root), .any))
        }
        try enrollments.perform(.makeVerificationCode(certificate: "root", .etag(try state().etag)))
        let code = try #require(try state().code)
        #expect(code.utf8.count == 48)
        for wrong in [try tree.leaf("x", by: tree.root), try tree.leaf(code, by: tree.middle)] {
            #expect(throws: EnrollmentError.self) { try enrollments.perform(.verifyCertificate(name: "root", by: wrong, .any)) }
        }
        #expect(throws: EnrollmentError.preconditionFailed) {
            try enrollments.perform(.verifyCertificate(name: "root", by: try tree.leaf(code, by: tree.root), .etag("x")))
        }
        try enrollments.perform(.verifyCertificate(name: "root", by: try tree.leaf(code, by: tree.root), .etag(try state().etag)))
        #expect(try state().isVerified)
        #expect(try state().code == nil)
        try upload(service, "root", tree.middle.certificate, verified: false)
        #expect(try !state().isVerified)
    }
}
