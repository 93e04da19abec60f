import COpenSSL

extension Certificate {
    /// SHA-256 over the certificate's SubjectPublicKeyInfo as it stands there (DER, RFC 5280 section 4.1): 32 bytes, the same for every
    /// certificate of one key. Throws `malformed` when there is no public key to be had.
    package func publicKeySHA256() throws(CertificateError) -> [UInt8] {
        // A key that OpenSSL cannot read is nobody's identity.
        guard X509_get0_pubkey(raw) != nil else { throw .malformed("its public key cannot be read") }
        return try PublicKeyDigest.sha256(of: X509_get_X509_PUBKEY(raw)) { i2d_X509_PUBKEY($0, $1) }
    }
}

extension PrivateKey {
    /// SHA-256 over the SubjectPublicKeyInfo of the public half (DER): 32 bytes.
    package func publicKeySHA256() throws(CertificateError) -> [UInt8] {
        try PublicKeyDigest.sha256(of: raw) { i2d_PUBKEY($0, $1) }
    }
}

private enum PublicKeyDigest {
    typealias Encoder = (OpaquePointer?, UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> CInt

    static func sha256(of key: OpaquePointer?, _ encode: Encoder) throws(CertificateError) -> [UInt8] {
        ERR_clear_error()
        var start: UnsafeMutablePointer<UInt8>?
        let count = encode(key, &start)
        guard count > 0, let start else { throw .last("i2d_PUBKEY") }
        defer { CRYPTO_free(start, "", 0) }
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 32
        guard EVP_Digest(start, Int(count), &digest, &length, EVP_sha256(), nil) == 1, length == 32 else { throw .last("EVP_Digest") }
        return digest
    }
}
