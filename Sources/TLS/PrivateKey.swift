import Bytes
import COpenSSL

/// The kinds of keys that can be made.
package enum KeyAlgorithm: String, CaseIterable, Sendable {
    case p256, p384, ed25519, rsa2048, rsa4096

    /// The kind of a certificate's key; nil for one that is not made here.
    package init?(of certificate: Certificate) {
        switch (certificate.publicKeyAlgorithm, certificate.publicKeyBits) {
        case ("EC P-256", _): self = .p256
        case ("EC P-384", _): self = .p384
        case ("Ed25519", _): self = .ed25519
        case ("RSA", ...2048): self = .rsa2048
        case ("RSA", _): self = .rsa4096
        default: return nil
        }
    }

    /// RSA also encrypts the key exchange of TLS 1.2, so its certificates allow keyEncipherment.
    var isRSA: Bool { self == .rsa2048 || self == .rsa4096 }
}

/// A private key with its public half.
///
/// Unchecked Sendable: never changed after creation; OpenSSL counts references atomically.
package final class PrivateKey: @unchecked Sendable {
    /// The EVP_PKEY*, owned by this object.
    package let raw: OpaquePointer

    /// Makes a new key.
    package init(generating algorithm: KeyAlgorithm) throws(CertificateError) {
        let kind: CInt =
            switch algorithm {
            case .p256, .p384: EVP_PKEY_EC
            case .ed25519: EVP_PKEY_ED25519
            case .rsa2048, .rsa4096: EVP_PKEY_RSA
            }
        ERR_clear_error()
        guard let context = EVP_PKEY_CTX_new_id(kind, nil) else { throw .last("EVP_PKEY_CTX_new_id") }
        defer { EVP_PKEY_CTX_free(context) }
        guard EVP_PKEY_keygen_init(context) == 1 else { throw .last("EVP_PKEY_keygen_init") }
        let prepared: CInt =
            switch algorithm {
            case .p256: EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1)
            case .p384: EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_secp384r1)
            case .ed25519: 1
            case .rsa2048: EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048)
            case .rsa4096: EVP_PKEY_CTX_set_rsa_keygen_bits(context, 4096)
            }
        guard prepared == 1 else { throw .last("EVP_PKEY_CTX_set") }
        var made: OpaquePointer?
        guard EVP_PKEY_keygen(context, &made) == 1, let made else { throw .last("EVP_PKEY_keygen") }
        raw = made
    }

    /// The first private key of PEM text: PKCS#8, or the older forms of RSA and EC. Never asks for a password.
    package init(pem: [UInt8]) throws(CertificateError) {
        guard pem.count <= CredentialFile.limit else { throw .tooLarge(limit: CredentialFile.limit) }
        ERR_clear_error()
        let parsed = MemoryBIO.reading(pem) { PEM_read_bio_PrivateKey($0, nil, Self.noPassword, nil) }
        guard let found = parsed ?? nil else {
            let code = ERR_peek_last_error()
            ERR_clear_error()
            let text = String(decoding: pem, as: UTF8.self)
            if text.contains(text: "BEGIN ENCRYPTED PRIVATE KEY") || text.contains(text: "Proc-Type: 4,ENCRYPTED") { throw .encryptedKey }
            guard text.contains(text: "PRIVATE KEY-----") else { throw .noPrivateKey }
            let reason = ERR_reason_error_string(code).map { String(cString: $0) } ?? "unknown reason"
            throw .malformed("the private key cannot be read (\(reason))")
        }
        raw = found
    }

    /// Reads a file of PEM.
    package convenience init(path: String) throws(CertificateError) {
        var bytes = try CredentialFile.read(path)
        defer { CredentialFile.wipe(&bytes) }
        try self.init(pem: bytes)
    }

    deinit { EVP_PKEY_free(raw) }

    /// The key as PEM, PKCS#8 without a password. The caller wipes it after use.
    package func pem() throws(CertificateError) -> [UInt8] {
        let bytes = MemoryBIO.bytes { PEM_write_bio_PKCS8PrivateKey($0, raw, nil, nil, 0, nil, nil) == 1 }
        guard !bytes.isEmpty else { throw .last("PEM_write_bio_PKCS8PrivateKey") }
        return bytes
    }

    /// Whether the certificate carries this key's public half.
    package func matches(_ certificate: Certificate) -> Bool {
        let equal = EVP_PKEY_eq(X509_get0_pubkey(certificate.raw), raw) == 1
        if !equal { ERR_clear_error() }
        return equal
    }

    /// The key's kind as people say it: `EC P-256`, `RSA`, `Ed25519`.
    package var algorithm: String { Self.algorithmName(raw) }
    /// The key's size in bits.
    package var bits: Int { Int(EVP_PKEY_get_bits(raw)) }

    /// The digest that goes with a signature of this key; nil for Ed25519, which has its own.
    var digest: OpaquePointer? {
        switch EVP_PKEY_get_base_id(raw) {
        case EVP_PKEY_ED25519, EVP_PKEY_ED448: nil
        case EVP_PKEY_EC: bits > 256 ? EVP_sha384() : EVP_sha256()
        default: EVP_sha256()
        }
    }

    /// The kind of an EVP_PKEY*, public or private.
    static func algorithmName(_ key: OpaquePointer?) -> String {
        guard let key else { return "unknown" }
        switch EVP_PKEY_get_base_id(key) {
        case EVP_PKEY_RSA: return "RSA"
        case EVP_PKEY_RSA_PSS: return "RSA-PSS"
        case EVP_PKEY_ED25519: return "Ed25519"
        case EVP_PKEY_ED448: return "Ed448"
        case EVP_PKEY_EC:
            var name = [CChar](repeating: 0, count: 64)
            guard EVP_PKEY_get_group_name(key, &name, name.count, nil) == 1 else { return "EC" }
            let group = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            switch group {
            case "prime256v1": return "EC P-256"
            case "secp384r1": return "EC P-384"
            case "secp521r1": return "EC P-521"
            default: return "EC \(group)"
            }
        default: return "unknown"
        }
    }

    /// Answers OpenSSL's question for a password with none: the default would ask on the terminal.
    static let noPassword: @convention(c) (UnsafeMutablePointer<CChar>?, CInt, CInt, UnsafeMutableRawPointer?) -> CInt = { _, _, _, _ in 0 }
}
