import Console
import TLS
import Wire

/// What is told about one certificate, as text and as JSON.
struct CertificateReport {
    let certificate: Certificate
    /// The file it is in; nil for one from standard input.
    var path: String?
    var keyPath: String?
    var fullChainPath: String?

    init(certificate: Certificate, path: String?) {
        self.certificate = certificate
        self.path = path
    }

    /// A word, and what it says; the same words in camel case are the JSON members.
    private var facts: [(word: String, member: String, value: JSONValue?)] {
        let names = certificate.alternativeNames.map(\.description)
        return [
            ("certificate", "certificate", path.map { .string($0) }),
            ("key", "key", keyPath.map { .string($0) }),
            ("full chain", "fullChain", fullChainPath.map { .string($0) }),
            ("subject", "subject", .string(certificate.subject)),
            ("common name", "commonName", certificate.commonName.map { .string($0) }),
            ("names", "names", names.isEmpty ? nil : .array(names.map { .string($0) })),
            ("issuer", "issuer", .string(certificate.issuer)),
            ("serial", "serial", .string(certificate.serial)),
            ("not before", "notBefore", .string(CertificateTime.text(certificate.notBefore))),
            ("not after", "notAfter", .string(CertificateTime.text(certificate.notAfter))),
            ("ca", "ca", .bool(certificate.isCA)),
            ("path length", "pathLength", certificate.pathLength.map { .integer(Int64($0)) }),
            ("key usage", "keyUsage", certificate.keyUsage.map { .array($0.names.map { .string($0) }) }),
            ("extended usage", "extendedKeyUsage", certificate.extendedKeyUsage.map { .array($0.map { .string($0) }) }),
            ("public key", "publicKey", .string(certificate.publicKeyAlgorithm)),
            ("key bits", "publicKeyBits", .integer(Int64(certificate.publicKeyBits))),
            ("signed with", "signatureAlgorithm", .string(certificate.signatureAlgorithm)),
            ("sha-1", "sha1Thumbprint", .string(certificate.sha1Thumbprint)),
            ("sha-256", "sha256Thumbprint", .string(certificate.sha256Thumbprint)),
        ]
    }

    var json: JSONValue {
        var members = JSONObject()
        for fact in facts { members[fact.member] = fact.value }
        return .object(members)
    }

    /// The facts, a line each; `brief` leaves out what somebody who just made it knows.
    func lines(brief: Bool) -> [String] {
        let kept: Set = ["certificate", "key", "full chain", "issuer", "not after", "sha-1", "sha-256"]
        return facts.compactMap { fact in
            guard let value = fact.value, !brief || kept.contains(fact.word) else { return nil }
            return fact.word + String(repeating: " ", count: max(1, 16 - fact.word.count)) + Printable.oneLine(Self.text(value))
        }
    }

    private static func text(_ value: JSONValue) -> String {
        switch value {
        case .bool(let yes): yes ? "yes" : "no"
        case .array(let values): values.compactMap(\.string).joined(separator: ", ")
        case .string(let text): text
        default: value.integer.map { "\($0)" } ?? ""
        }
    }

    func print(json wantsJSON: Bool) throws(Failure) {
        if wantsJSON {
            try Output.json(json)
        } else {
            for line in lines(brief: true) { try Output.line(line) }
        }
    }
}
