/// Why a chain does not hold, worst first, in words.
package struct ChainFailure: Error, CustomStringConvertible {
    package let reasons: [ChainFault]

    package init(reasons: [ChainFault]) { self.reasons = reasons }

    package var description: String { reasons.map(\.words).joined(separator: "; ") }
}

/// One thing that is wrong with a chain. `subject` is printable text and names the certificate at fault.
package enum ChainFault: Error, Equatable, Sendable, CustomStringConvertible {
    case expired(subject: String, at: Int64)
    case notYetValid(subject: String, from: Int64)
    /// Nobody among the given certificates issued `subject`.
    case unknownIssuer(subject: String, issuer: String)
    /// A root that was presented but is not among the trusted ones.
    case untrustedRoot(subject: String)
    /// The issuer is there, but its certificate does not let it issue.
    case issuerNotCA(subject: String, issuer: String)
    case issuerMayNotSign(subject: String, issuer: String)
    case badSignature(subject: String, issuer: String)
    case pathTooLong(issuer: String)
    case wrongPurpose(subject: String, wanted: String, usages: String)
    case nameMismatch(wanted: String, names: [String])
    case weak(subject: String, what: String)
    /// A leaf that may issue others.
    case isCA(subject: String)
    /// More certificates than anybody looks through.
    case tooLong(limit: Int)
    /// No certificate at all.
    case nothingShown
    /// Anything else, in OpenSSL's words.
    case other(subject: String, reason: String)

    /// One word for programs: the audit log's `code`.
    package var code: String {
        switch self {
        case .expired: "expired"
        case .notYetValid: "not-yet-valid"
        case .unknownIssuer: "no-issuer"
        case .untrustedRoot: "untrusted-root"
        case .issuerNotCA: "not-a-ca"
        case .issuerMayNotSign, .wrongPurpose: "key-usage"
        case .badSignature: "bad-signature"
        case .pathTooLong: "path-length"
        case .nameMismatch: "wrong-name"
        case .weak: "weak-key"
        case .isCA: "is-a-ca"
        case .tooLong: "too-long"
        case .nothingShown: "no-certificate"
        case .other: "invalid"
        }
    }

    /// One clear line for people, printable.
    package var words: String {
        switch self {
        case .expired(let subject, let at): "\(subject) expired on \(CertificateTime.text(at))"
        case .notYetValid(let subject, let from): "\(subject) is not valid before \(CertificateTime.text(from))"
        case .unknownIssuer(let subject, let issuer): "the issuer of \(subject) is unknown: no certificate of \(issuer) at hand"
        case .untrustedRoot(let subject): "the root \(subject) is not trusted"
        case .issuerNotCA(let subject, let issuer): "\(subject) was issued by \(issuer), which is not a CA"
        case .issuerMayNotSign(let subject, let issuer): "\(subject) was issued by \(issuer), whose key usage lacks keyCertSign"
        case .badSignature(let subject, let issuer): "\(subject) was not signed by the key of this \(issuer)"
        case .pathTooLong(let issuer): "more CAs follow below \(issuer) than its path length allows"
        case .wrongPurpose(let subject, let wanted, let usages): "\(subject) is not made for a \(wanted): its usage is \(usages)"
        case .nameMismatch(let wanted, let names):
            "not valid for \(wanted): its names are \(names.isEmpty ? "none" : names.joined(separator: ", "))"
        case .weak(let subject, let what): "\(subject) is too weak: \(what)"
        case .isCA(let subject): "\(subject) is a CA, and a device's own certificate must not be one"
        case .tooLong(let limit): "the chain is longer than \(limit) certificates"
        case .nothingShown: "no certificate was shown"
        case .other(let subject, let reason): "\(subject): \(reason)"
        }
    }

    package var description: String { words }
}
