import COpenSSL

/// A request for a certificate: PKCS#10, RFC 2986. Its signature has been checked, so whoever made it has the private key.
///
/// Unchecked Sendable: never changed once read or made.
package final class CertificateRequest: @unchecked Sendable {
    private let raw: OpaquePointer  // X509_REQ*
    /// An EVP_PKEY* that lives as long as this object.
    let publicKey: OpaquePointer

    /// The first request of PEM text, or one as DER.
    /// Throws `malformed` for damage, a wrong signature and a key that is too weak for anybody to take; `noRequest` when there is none.
    package convenience init(bytes: [UInt8]) throws(CertificateError) {
        guard bytes.count <= CredentialFile.limit else { throw .tooLarge(limit: CredentialFile.limit) }
        ERR_clear_error()
        let parsed = MemoryBIO.reading(bytes) { bio in
            bytes.first == 0x30 ? d2i_X509_REQ_bio(bio, nil) : PEM_read_bio_X509_REQ(bio, nil, PrivateKey.noPassword, nil)
        }
        guard let raw = parsed ?? nil else {
            let code = ERR_peek_last_error(), isMissing = cssl_err_lib(code) == ERR_LIB_PEM && cssl_err_reason(code) == PEM_R_NO_START_LINE
            let reason = CertificateError.lastReason()
            throw isMissing || bytes.isEmpty ? .noRequest : .malformed(reason)
        }
        try self.init(adopting: raw)
    }

    private init(adopting raw: OpaquePointer) throws(CertificateError) {
        ERR_clear_error()
        guard let key = X509_REQ_get0_pubkey(raw), X509_REQ_verify(raw, key) == 1 else {
            ERR_clear_error()
            X509_REQ_free(raw)
            throw .malformed("it is not signed by its own key")
        }
        self.raw = raw
        publicKey = key
        let bits = EVP_PKEY_get_bits(key), kind = EVP_PKEY_get_base_id(key), isRSA = kind == EVP_PKEY_RSA || kind == EVP_PKEY_RSA_PSS
        guard isRSA ? (2048...8192).contains(bits) : EVP_PKEY_get_security_bits(key) >= 112 else {
            throw .malformed("its \(PrivateKey.algorithmName(key)) key of \(bits) bits is not one to use")
        }
    }

    /// Asks for a certificate with these names for a key.
    /// - Parameter names: subject alternative names; none: the extension is left out.
    package convenience init(commonName: String?, names: [AlternativeName], key: PrivateKey) throws(CertificateError) {
        guard let raw = X509_REQ_new() else { throw .last("X509_REQ_new") }
        do throws(CertificateError) {
            guard X509_REQ_set_version(raw, Int(X509_REQ_VERSION_1)) == 1 else { throw .last("X509_REQ_set_version") }
            if let commonName { try CertificateDraft.add(commonName, to: X509_REQ_get_subject_name(raw)) }
            guard X509_REQ_set_pubkey(raw, key.raw) == 1 else { throw .last("X509_REQ_set_pubkey") }
            if !names.isEmpty {
                let list = try AlternativeName.list(names)
                defer { GENERAL_NAMES_free(list) }
                var extensions: OpaquePointer?
                defer { cssl_extensions_free(extensions) }
                guard X509V3_add1_i2d(&extensions, NID_subject_alt_name, UnsafeMutableRawPointer(list), commonName == nil ? 1 : 0, 0) == 1,
                    X509_REQ_add_extensions(raw, extensions) == 1
                else { throw .last("X509_REQ_add_extensions") }
            }
            guard X509_REQ_sign(raw, key.raw, key.digest) > 0 else { throw .last("X509_REQ_sign") }
        } catch {
            X509_REQ_free(raw)
            throw error
        }
        try self.init(adopting: raw)
    }

    deinit { X509_REQ_free(raw) }

    /// The subject in RFC 2253 text, safe to print.
    package var subject: String { Certificate.text(X509_REQ_get_subject_name(raw)) }
    /// The subject's common name exactly as it stands; nil when there is none or more than one.
    package var commonName: String? { Certificate.commonName(of: X509_REQ_get_subject_name(raw)) }

    /// The subject alternative names that are asked for; kinds other than DNS and IP are left out.
    package var alternativeNames: [AlternativeName] {
        let extensions = X509_REQ_get_extensions(raw)
        defer { cssl_extensions_free(extensions) }
        return extensions == nil ? [] : AlternativeName.taking(X509V3_get_d2i(extensions, NID_subject_alt_name, nil, nil))
    }

    /// The key's kind as people say it, and its size in bits.
    package var keyAlgorithm: String { PrivateKey.algorithmName(publicKey) }
    package var keyBits: Int { Int(EVP_PKEY_get_bits(publicKey)) }

    /// Whether the request is for this key.
    package func matches(_ key: PrivateKey) -> Bool {
        let equal = EVP_PKEY_eq(publicKey, key.raw) == 1
        if !equal { ERR_clear_error() }
        return equal
    }

    package var pem: String { MemoryBIO.text { PEM_write_bio_X509_REQ($0, raw) == 1 } }
}
