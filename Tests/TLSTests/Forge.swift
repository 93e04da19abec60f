import COpenSSL

@testable import TLS

/// Certificates as no good tool makes them.
struct Forge {
    /// 2026-01-01T00:00:00Z.
    static let now: Int64 = 1_767_225_600
    static let day: Int64 = 86_400

    let certificate: Certificate
    let key: PrivateKey

    /// Any subject, dates and extensions; issued by itself without an issuer.
    /// - Parameter extensions: OpenSSL's configuration text by number.
    init(
        _ name: String, by issuer: Forge? = nil, key: PrivateKey? = nil, from: Int64 = now - day, until: Int64 = now + 30 * day,
        extensions: [(CInt, String)] = [], issuerName: OpaquePointer? = nil, digest: OpaquePointer? = EVP_sha256()
    ) throws {
        let key = try key ?? PrivateKey(generating: .p256)
        let draft = try CertificateDraft()
        try draft.setSubject(name)
        try draft.setPublicKey(of: key.raw)
        try draft.setValidity(from: from, until: until)
        try draft.setIssuer(issuer?.certificate.raw ?? draft.raw)
        for (kind, value) in extensions {
            var context = X509V3_CTX()
            X509V3_set_ctx(&context, issuer?.certificate.raw ?? draft.raw, draft.raw, nil, nil, 0)
            let made = X509V3_EXT_conf_nid(nil, &context, kind, value)
            X509_add_ext(draft.raw, made, -1)
            X509_EXTENSION_free(made)
        }
        X509_sign(draft.raw, (issuer?.key ?? key).raw, digest)
        self.certificate = try Certificate(der: Certificate(sharing: draft.raw).der)
        self.key = key
    }

    /// A CA with what a CA has, unless `constraints` or `usage` say otherwise.
    static func authority(
        _ name: String, by issuer: Forge? = nil, key: PrivateKey? = nil, constraints: String? = "critical,CA:TRUE",
        usage: String? = "critical,keyCertSign", identifiers: Bool = true, from: Int64 = now - day, until: Int64 = now + 30 * day,
        digest: OpaquePointer? = EVP_sha256()
    ) throws -> Forge {
        var extensions: [(CInt, String)] = []
        if let constraints { extensions.append((NID_basic_constraints, constraints)) }
        if let usage { extensions.append((NID_key_usage, usage)) }
        if identifiers {
            extensions.append((NID_subject_key_identifier, "hash"))
            if issuer != nil { extensions.append((NID_authority_key_identifier, "keyid")) }
        }
        return try Forge(name, by: issuer, key: key, from: from, until: until, extensions: extensions, digest: digest)
    }

    /// A key of a kind that nobody should have.
    static func key(curve: CInt) throws -> PrivateKey {
        try made(EVP_PKEY_EC) { EVP_PKEY_CTX_set_ec_paramgen_curve_nid($0, curve) }
    }

    static func key(rsaBits: CInt) throws -> PrivateKey {
        try made(EVP_PKEY_RSA) { EVP_PKEY_CTX_set_rsa_keygen_bits($0, rsaBits) }
    }

    private static func made(_ kind: CInt, _ prepare: (OpaquePointer?) -> CInt) throws -> PrivateKey {
        let context = EVP_PKEY_CTX_new_id(kind, nil)
        defer { EVP_PKEY_CTX_free(context) }
        EVP_PKEY_keygen_init(context)
        _ = prepare(context)
        var key: OpaquePointer?
        EVP_PKEY_keygen(context, &key)
        let pem = MemoryBIO.bytes { PEM_write_bio_PKCS8PrivateKey($0, key, nil, nil, 0, nil, nil) == 1 }
        EVP_PKEY_free(key)
        return try PrivateKey(pem: pem)
    }
}
