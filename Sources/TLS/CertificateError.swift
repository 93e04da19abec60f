import COpenSSL
import Glibc

/// Why a certificate or a key could not be read, made or used. Texts never hold key material.
package enum CertificateError: Error, Equatable, CustomStringConvertible {
    /// The file could not be read; `code` is an errno value.
    case unreadable(path: String, code: CInt)
    /// More than `limit` bytes: no certificate file is that long.
    case tooLarge(limit: Int)
    /// No certificate in the text.
    case noCertificate
    /// No request for a certificate in the text.
    case noRequest
    /// A certificate or key is there, but broken.
    case malformed(String)
    /// No private key in the text.
    case noPrivateKey
    /// The private key asks for a password.
    case encryptedKey
    /// The private key belongs to another certificate.
    case keyMismatch
    /// A name that a certificate cannot hold, and why.
    case name(String)
    /// The issuer may not issue this, and why.
    case issuer(String)
    /// The issuer is out of its own validity now, and how.
    case issuerDates(String)
    /// OpenSSL refused: the call, and its own words.
    case failed(call: String, reason: String)

    package var description: String {
        switch self {
        case .unreadable(let path, let code): "\(path): \(String(cString: strerror(code)))"
        case .tooLarge(let limit): "longer than \(limit) bytes"
        case .noCertificate: "no certificate in it (expected PEM text with BEGIN CERTIFICATE, or DER)"
        case .noRequest: "no request in it (expected PEM text with BEGIN CERTIFICATE REQUEST, or DER)"
        case .malformed(let reason): "damaged: \(reason)"
        case .noPrivateKey: "no private key in it (expected PEM text with BEGIN PRIVATE KEY)"
        case .encryptedKey: "the private key is protected by a password"
        case .keyMismatch: "the private key does not belong to the certificate"
        case .name(let reason): reason
        case .issuer(let reason): reason
        case .issuerDates(let reason): reason
        case .failed(let call, let reason): "\(call): \(reason)"
        }
    }

    /// The newest entry of OpenSSL's error queue as a `failed`; empties the queue.
    static func last(_ call: String) -> CertificateError {
        .failed(call: call, reason: lastReason())
    }

    /// The newest entry of OpenSSL's error queue in words; empties the queue.
    static func lastReason() -> String {
        let code = ERR_peek_last_error()
        ERR_clear_error()
        guard code != 0, let text = ERR_reason_error_string(code) else { return "unknown reason" }
        return String(cString: text)
    }
}
