import COpenSSL
import Glibc

/// A certificate in the making: an X509* that nobody else sees before it is signed.
final class CertificateDraft {
    let raw: OpaquePointer

    /// Version 3, with a random positive serial number of at most 159 bits: 20 bytes as RFC 5280 section 4.1.2.2 allows.
    init() throws(CertificateError) {
        ERR_clear_error()
        guard let made = X509_new() else { throw .last("X509_new") }
        raw = made
        guard X509_set_version(raw, Int(X509_VERSION_3)) == 1 else { throw .last("X509_set_version") }
        guard let number = BN_new() else { throw .last("BN_new") }
        defer { BN_free(number) }
        repeat {
            guard BN_rand(number, 159, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 else { throw .last("BN_rand") }
        } while BN_is_zero(number) == 1
        guard BN_to_ASN1_INTEGER(number, X509_get_serialNumber(raw)) != nil else { throw .last("BN_to_ASN1_INTEGER") }
    }

    deinit { X509_free(raw) }

    /// The last second of a validity: `seconds` after `now`, no later than the year 9999 that ASN.1 can write.
    static func end(of seconds: Int64, from now: Int64) -> Int64 {
        let (sum, overflow) = now.addingReportingOverflow(seconds)
        return overflow ? 253_402_300_799 : min(sum, 253_402_300_799)
    }

    func setSubject(_ commonName: String?) throws(CertificateError) {
        if let commonName { try Self.add(commonName, to: X509_get_subject_name(raw)) }
    }

    /// Makes a text the common name of an X509_NAME: 1 to 64 characters, none of them a control character.
    static func add(_ commonName: String, to name: OpaquePointer?) throws(CertificateError) {
        let count = commonName.unicodeScalars.count
        guard (1...64).contains(count) else {
            throw .name("'\(commonName.printable)' has \(count) characters, the name in a certificate has 1 to 64")
        }
        guard !commonName.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) else {
            throw .name("'\(commonName.printable)' has control characters")
        }
        let bytes = Array(commonName.utf8)
        guard X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, bytes, CInt(bytes.count), -1, 0) == 1 else {
            throw .last("X509_NAME_add_entry")
        }
    }

    func setPublicKey(of key: OpaquePointer?) throws(CertificateError) {
        guard X509_set_pubkey(raw, key) == 1 else { throw .last("X509_set_pubkey") }
    }

    /// Unix seconds; written as UTCTime before 2050 and GeneralizedTime from then on, RFC 5280 section 4.1.2.5.
    func setValidity(from: Int64, until: Int64) throws(CertificateError) {
        guard ASN1_TIME_set(X509_getm_notBefore(raw), time_t(from)) != nil, ASN1_TIME_set(X509_getm_notAfter(raw), time_t(until)) != nil
        else { throw .last("ASN1_TIME_set") }
    }

    func setIssuer(_ issuer: OpaquePointer) throws(CertificateError) {
        guard X509_set_issuer_name(raw, X509_get_subject_name(issuer)) == 1 else { throw .last("X509_set_issuer_name") }
    }

    /// The extensions of a role. The text given to OpenSSL's parser is ours alone; names from outside never pass through it.
    func add(_ role: CertificateRole, issuedBy issuer: OpaquePointer, commonName: String?, rsa: Bool) throws(CertificateError) {
        switch role {
        case .root:
            try add(NID_basic_constraints, "critical,CA:TRUE", issuer)
            try add(NID_key_usage, "critical,keyCertSign,cRLSign", issuer)
        case .intermediate(let pathLength):
            try add(NID_basic_constraints, "critical,CA:TRUE,pathlen:\(max(0, pathLength))", issuer)
            try add(NID_key_usage, "critical,keyCertSign,cRLSign", issuer)
        case .server(let names):
            try add(NID_basic_constraints, "critical,CA:FALSE", issuer)
            try add(NID_key_usage, "critical,digitalSignature" + (rsa ? ",keyEncipherment" : ""), issuer)
            try add(NID_ext_key_usage, "serverAuth", issuer)
            try add(names: names, critical: commonName == nil)
        case .client:
            try add(NID_basic_constraints, "critical,CA:FALSE", issuer)
            try add(NID_key_usage, "critical,digitalSignature", issuer)
            try add(NID_ext_key_usage, "clientAuth", issuer)
        }
        try addKeyIdentifiers(issuer)
    }

    /// SKI of the own key; AKI names the issuer's key, or issuer and serial number when the issuer has no SKI.
    func addKeyIdentifiers(_ issuer: OpaquePointer) throws(CertificateError) {
        try add(NID_subject_key_identifier, "hash", issuer)
        let hasIdentifier = X509_get_ext_by_NID(issuer, NID_subject_key_identifier, -1) >= 0
        try add(NID_authority_key_identifier, hasIdentifier ? "keyid:always" : "issuer:always", issuer)
    }

    private func add(_ kind: CInt, _ value: String, _ issuer: OpaquePointer) throws(CertificateError) {
        var context = X509V3_CTX()
        X509V3_set_ctx(&context, issuer, raw, nil, nil, 0)
        guard let made = X509V3_EXT_conf_nid(nil, &context, kind, value) else { throw .last("X509V3_EXT_conf_nid") }
        defer { X509_EXTENSION_free(made) }
        guard X509_add_ext(raw, made, -1) == 1 else { throw .last("X509_add_ext") }
    }

    private func add(names: [AlternativeName], critical: Bool) throws(CertificateError) {
        let list = try AlternativeName.list(names)
        defer { GENERAL_NAMES_free(list) }
        guard X509_add1_ext_i2d(raw, NID_subject_alt_name, UnsafeMutableRawPointer(list), critical ? 1 : 0, 0) == 1 else {
            throw .last("X509_add1_ext_i2d")
        }
    }

    /// The finished certificate, read back from its own DER so that nothing of the draft is left in it.
    func signed(with key: PrivateKey) throws(CertificateError) -> Certificate {
        guard X509_sign(raw, key.raw, key.digest) > 0 else { throw .last("X509_sign") }
        let shared = try Certificate(sharing: raw)
        return try Certificate(der: shared.der)
    }

    /// `old` once more: subject, key and extensions are its own, the key identifiers, serial number and dates are new.
    /// - Parameters:
    ///   - key: the issuer's.
    ///   - subject: whose public half takes the place of the old one; nil: the key stays.
    static func renewal(
        of old: Certificate, issuedBy issuer: Certificate, key: PrivateKey, rollingTo subject: PrivateKey? = nil, from: Int64, until: Int64
    ) throws(CertificateError) -> Certificate {
        let draft = try CertificateDraft()
        guard X509_set_subject_name(draft.raw, X509_get_subject_name(old.raw)) == 1 else { throw .last("X509_set_subject_name") }
        try draft.setPublicKey(of: subject?.raw ?? X509_get0_pubkey(old.raw))
        try draft.setValidity(from: from, until: until)
        try draft.setIssuer(issuer.raw)
        for index in 0..<X509_get_ext_count(old.raw) {
            guard let found = X509_get_ext(old.raw, index) else { continue }
            let kind = OBJ_obj2nid(X509_EXTENSION_get_object(found))
            if kind == NID_subject_key_identifier || kind == NID_authority_key_identifier { continue }
            guard X509_add_ext(draft.raw, found, -1) == 1 else { throw .last("X509_add_ext") }
        }
        try draft.addKeyIdentifiers(issuer.isSame(as: old) ? draft.raw : issuer.raw)
        return try draft.signed(with: key)
    }
}
