import TLS
import Wire

/// Why somebody was not let in: for the log. The peer hears no more than `error`.
package enum Refusal: Error, Equatable, Sendable {
    case noCredential
    case malformedToken
    case wrongSignature
    /// `expiry` in seconds since 1970.
    case expired(expiry: Int64)
    case wrongAudience
    case unknownIdentity
    case disabled
    /// A token for an identity that proves itself by certificate, or the other way about.
    case wrongAttestation
    /// The thumbprint is in neither slot.
    case wrongCertificate
    case certificate(ChainFault)
    /// The chain is good, but nobody has proved that this authority is his.
    case unverifiedAuthority(String)
    /// The hub's configuration refuses this way of getting in; the key that says so.
    case switchedOff(String)
    case unknownPolicy
    case missingRight(Rights)
    /// A will that is not for the identity's own telemetry.
    case badWill
    case store(String)

    /// What the peer is told over HTTP.
    package var error: RegistryError {
        switch self {
        case .missingRight: .forbidden
        case .store(let text): .store(.failed(path: "registry", operation: "authenticate", reason: text))
        default: .unauthorized
        }
    }
}

extension Refusal: CustomStringConvertible {
    package var description: String {
        switch self {
        case .noCredential: "no-credential"
        case .malformedToken: "malformed-token"
        case .wrongSignature: "wrong-signature"
        case .expired: "expired-token"
        case .wrongAudience: "wrong-audience"
        case .unknownIdentity: "unknown-identity"
        case .disabled: "disabled"
        case .wrongAttestation: "wrong-attestation"
        case .wrongCertificate: "wrong-certificate"
        case .certificate(let fault): fault.code
        case .unverifiedAuthority: "unverified-authority"
        case .switchedOff: "switched-off"
        case .unknownPolicy: "unknown-policy"
        case .missingRight: "missing-right"
        case .badWill: "bad-will"
        case .store: "registry-failed"
        }
    }

    /// What there is to say besides the word, for the log; empty where the word says it all.
    package var words: String {
        switch self {
        case .expired(let expiry): "the token was good until \(Timestamp(seconds: expiry))"
        case .certificate(let fault): fault.words
        case .unverifiedAuthority(let name): "authority \(name) is not verified"
        case .switchedOff(let key): "\(key) is on"
        case .wrongCertificate: "its thumbprint is in neither slot"
        case .wrongAttestation: "the identity does not prove itself this way"
        case .missingRight(let rights): "it needs \(rights)"
        case .store(let text): text
        default: ""
        }
    }
}
