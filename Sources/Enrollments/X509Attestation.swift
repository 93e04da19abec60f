import TLS
import Wire

/// The certificates or CAs of an X.509 attestation: one of three forms, two slots each (dps 9.2, 9.3).
package struct X509Attestation: Sendable {
    package enum Form: String, Sendable, CaseIterable {
        /// The device's own certificate.
        case clientCertificates
        /// The certificate that signs those of devices.
        case signingCertificates
        /// Names of CA certificates of the service.
        case caReferences
    }

    package enum Slot: Sendable {
        case certificate(Certificate)
        case reference(String)
    }

    package let form: Form
    package let primary: Slot
    package let secondary: Slot?

    package var slots: [Slot] { [primary] + (secondary.map { [$0] } ?? []) }
    package var certificates: [Certificate] { slots.compactMap { if case .certificate(let certificate) = $0 { certificate } else { nil } } }
    package var references: [String] { slots.compactMap { if case .reference(let name) = $0 { name } else { nil } } }

    func json(bodies: Bool) -> JSONValue {
        func document(_ slot: Slot) -> JSONValue {
            switch slot {
            case .reference(let name): return .string(name)
            case .certificate(let certificate):
                guard !bodies else { return ["certificate": .string(Base64.encode(certificate.der))] }
                return ["certificate": nil, "info": certificate.info]
            }
        }
        var json = JSONValue.object(JSONObject())
        json[form.rawValue] = .object(of: ["primary": document(primary), "secondary": secondary.map(document)])
        return json
    }

    init(json: JSONValue, kind: EnrollmentKind, existing: X509Attestation?) throws(EnrollmentError) {
        let given = Form.allCases.filter { json[$0.rawValue]?.isNull == false }
        guard given.count == 1, let form = given.first, let slots = json[form.rawValue] else {
            throw .invalid("attestation.x509 has one of clientCertificates, signingCertificates and caReferences")
        }
        guard kind == .individual || form != .clientCertificates else {
            throw .invalid("an enrollment group has signingCertificates or caReferences")
        }
        self.form = form
        let old = existing?.form == form ? existing : nil
        guard let primary = try Self.slot(slots["primary"], form, old?.primary) else {
            throw .invalid("attestation.x509.\(form.rawValue).primary is missing")
        }
        self.primary = primary
        secondary = try Self.slot(slots["secondary"], form, old?.secondary)
    }

    /// A slot that comes back with `info` and without its certificate keeps the one it has (dps 14.3).
    private static func slot(_ json: JSONValue?, _ form: Form, _ existing: Slot?) throws(EnrollmentError) -> Slot? {
        guard let json, !json.isNull else { return nil }
        if form == .caReferences {
            guard let name = json.string, Identifier.isValidPolicyName(name) else {
                throw .invalid("a CA reference is a certificate's name")
            }
            return .reference(name)
        }
        guard let text = try json.text("certificate") else {
            if case .certificate(let certificate)? = existing,
                json["info"]?.isNull != false
                    || json["info"]?["sha256Thumbprint"]?.string.map({ ASCII.equalIgnoringCase($0, certificate.sha256Thumbprint) }) != false
            {
                return existing
            }
            if json["info"]?.isNull != false, json["certificate"]?.isNull != false { return nil }
            throw .invalid("\(form.rawValue) has no certificate")
        }
        let certificate = try Certificate(written: text)
        if form == .signingCertificates, !certificate.isCA { throw .invalid("a signing certificate is a CA's") }
        return .certificate(certificate)
    }
}

extension Certificate {
    /// Reads PEM, PEM lines with `\r\n`, or bare Base64 of DER, as requests have it.
    convenience init(written text: String) throws(EnrollmentError) {
        var bytes = Array(text.utf8)
        if !bytes.starts(with: Self.pemStart) { bytes = Base64.decode(String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)) ?? [] }
        do throws(CertificateError) {
            // A file of PEM in Base64 is what some tools upload.
            if bytes.starts(with: Self.pemStart) { try self.init(pem: bytes) } else { try self.init(der: bytes) }
        } catch { throw .invalid("a certificate is neither PEM nor Base64 of DER") }
    }

    private static let pemStart = "-----BEGIN".utf8

    /// What documents tell of a certificate: hexadecimal in upper case (dps 14.3).
    package var info: JSONValue {
        [
            "subjectName": .string(subject), "sha1Thumbprint": .string(sha1Thumbprint), "sha256Thumbprint": .string(sha256Thumbprint),
            "issuerName": .string(issuer), "notBeforeUtc": .string(Timestamp(seconds: notBefore).description),
            "notAfterUtc": .string(Timestamp(seconds: notAfter).description), "serialNumber": .string(serial), "version": 3,
        ]
    }
}
