import COpenSSL

/// What a chain is checked for.
package enum CertificatePurpose: Sendable, Equatable {
    case any
    /// A TLS server; with a name, it must be one of the leaf's subject alternative names (the CN does not count).
    case server(name: AlternativeName?)
    case client
}

extension CertificateChain {
    /// Builds the way from the leaf to one of `anchors` and checks it at `time` (unix seconds).
    ///
    /// An anchor may be an intermediate; nothing above it is needed then. Keys below 112 bits of security and SHA-1 are too weak.
    /// - Parameter strict: also every rule of RFC 5280 that common software overlooks.
    /// - Returns: the chain that was built, leaf first, anchor last.
    package func verify(
        anchors: [Certificate], purpose: CertificatePurpose, time: Int64, strict: Bool = false
    ) throws(ChainFailure) -> [Certificate] {
        let check = ChainCheck(chain: self, anchors: anchors)
        return try check.run(purpose, time: time, strict: strict)
    }
}

/// One verification by OpenSSL, and the translation of what it found.
private final class ChainCheck {
    let chain: CertificateChain
    let anchors: [Certificate]
    var found: [(code: CInt, certificate: Certificate?)] = []

    init(chain: CertificateChain, anchors: [Certificate]) {
        self.chain = chain
        self.anchors = anchors
    }

    func run(_ purpose: CertificatePurpose, time: Int64, strict: Bool) throws(ChainFailure) -> [Certificate] {
        ERR_clear_error()
        defer { ERR_clear_error() }
        guard let store = X509_STORE_new(), let presented = cssl_sk_x509_new(), let context = X509_STORE_CTX_new() else {
            throw broken("out of memory")
        }
        defer {
            X509_STORE_CTX_free(context)
            cssl_sk_x509_free(presented)
            X509_STORE_free(store)
        }
        X509_STORE_set_check_issued(store) { _, certificate, issuer in ChainCheck.isLikelyIssuer(issuer, of: certificate) ? 1 : 0 }
        for anchor in anchors { X509_STORE_add_cert(store, anchor.raw) }
        for other in chain.others { cssl_sk_x509_push(presented, other.raw) }
        guard X509_STORE_CTX_init(context, store, chain.leaf.raw, presented) == 1, let rules = X509_STORE_CTX_get0_param(context) else {
            throw broken(CertificateError.lastReason())
        }
        X509_VERIFY_PARAM_set_flags(rules, UInt(X509_V_FLAG_PARTIAL_CHAIN) | (strict ? UInt(X509_V_FLAG_X509_STRICT) : 0))
        X509_VERIFY_PARAM_set_time(rules, time_t(time))
        X509_VERIFY_PARAM_set_depth(rules, 8)
        X509_VERIFY_PARAM_set_auth_level(rules, 2)
        prepare(rules, purpose)
        X509_STORE_CTX_set_ex_data(context, 0, Unmanaged.passUnretained(self).toOpaque())
        X509_STORE_CTX_set_verify_cb(context) { ok, context in
            if ok == 0, let context, let owner = X509_STORE_CTX_get_ex_data(context, 0) {
                Unmanaged<ChainCheck>.fromOpaque(owner).takeUnretainedValue().note(context)
            }
            return 1
        }
        let result = X509_verify_cert(context)
        let faults = found.compactMap { explain($0.code, $0.certificate, purpose) }
        guard faults.isEmpty, found.isEmpty, result == 1 else {
            var distinct: [ChainFault] = []
            for fault in faults where !distinct.contains(fault) { distinct.append(fault) }
            throw distinct.isEmpty ? broken(CertificateError.lastReason()) : ChainFailure(reasons: distinct)
        }
        let built = X509_STORE_CTX_get0_chain(context)
        var way: [Certificate] = []
        for index in 0..<cssl_sk_x509_num(built) {
            guard let raw = cssl_sk_x509_value(built, index), let next = try? Certificate(sharing: raw) else { continue }
            way.append(next)
        }
        return way
    }

    /// Whether `issuer` is worth a try. Key identifiers that fit decide at once; without them, or where they differ (they are a hint, not a
    /// rule), the signature does: two authorities may have one name.
    private static func isLikelyIssuer(_ issuer: OpaquePointer?, of certificate: OpaquePointer?) -> Bool {
        guard X509_NAME_cmp(X509_get_issuer_name(certificate), X509_get_subject_name(issuer)) == 0 else { return false }
        if let wanted = X509_get0_authority_key_id(certificate), let own = X509_get0_subject_key_id(issuer),
            ASN1_OCTET_STRING_cmp(wanted, own) == 0
        {
            return true
        }
        let verified = X509_verify(certificate, X509_get0_pubkey(issuer)) == 1
        if !verified { ERR_clear_error() }
        return verified
    }

    private func broken(_ reason: String) -> ChainFailure {
        ChainFailure(reasons: [.other(subject: chain.leaf.subject, reason: reason)])
    }

    private func prepare(_ rules: OpaquePointer, _ purpose: CertificatePurpose) {
        switch purpose {
        case .any: break
        case .client: X509_VERIFY_PARAM_set_purpose(rules, X509_PURPOSE_SSL_CLIENT)
        case .server(let name):
            X509_VERIFY_PARAM_set_purpose(rules, X509_PURPOSE_SSL_SERVER)
            X509_VERIFY_PARAM_set_hostflags(rules, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
            switch name {
            case .dns(let text)?: X509_VERIFY_PARAM_set1_host(rules, text, text.utf8.count)
            case .address(let bytes)?: X509_VERIFY_PARAM_set1_ip(rules, bytes, bytes.count)
            case nil: break
            }
        }
    }

    private func note(_ context: OpaquePointer) {
        let raw = X509_STORE_CTX_get_current_cert(context)
        found.append((X509_STORE_CTX_get_error(context), raw.flatMap { try? Certificate(sharing: $0) }))
    }

    private func explain(_ code: CInt, _ certificate: Certificate?, _ purpose: CertificatePurpose) -> ChainFault? {
        let certificate = certificate ?? chain.leaf
        let subject = certificate.subject.isEmpty ? "the certificate" : certificate.subject
        switch code {
        case X509_V_ERR_CERT_HAS_EXPIRED: return .expired(subject: subject, at: certificate.notAfter)
        case X509_V_ERR_CERT_NOT_YET_VALID: return .notYetValid(subject: subject, from: certificate.notBefore)
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT: return missingIssuer(certificate, subject)
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: return nil  // always follows the one above
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: return .untrustedRoot(subject: subject)
        case X509_V_ERR_CERT_SIGNATURE_FAILURE: return .badSignature(subject: subject, issuer: certificate.issuer)
        case X509_V_ERR_INVALID_CA, X509_V_ERR_INVALID_NON_CA:
            if certificate.claimsCA { return .issuerMayNotSign(subject: chain.leaf.subject, issuer: subject) }
            return .issuerNotCA(subject: chain.leaf.subject, issuer: subject)
        case X509_V_ERR_KEYUSAGE_NO_CERTSIGN: return .issuerMayNotSign(subject: chain.leaf.subject, issuer: subject)
        case X509_V_ERR_PATH_LENGTH_EXCEEDED: return .pathTooLong(issuer: subject)
        case X509_V_ERR_INVALID_PURPOSE:
            let usages = (certificate.extendedKeyUsage ?? []) + (certificate.keyUsage?.names ?? [])
            let wanted = purpose == .client ? "TLS client" : "TLS server"
            return .wrongPurpose(subject: subject, wanted: wanted, usages: usages.joined(separator: ", "))
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            guard case .server(let name?) = purpose else { return .nameMismatch(wanted: "this name", names: []) }
            return .nameMismatch(wanted: name.description, names: chain.leaf.alternativeNames.map(\.description))
        case X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_KEY_TOO_SMALL:
            return .weak(subject: subject, what: "\(certificate.publicKeyAlgorithm) key of \(certificate.publicKeyBits) bits")
        case X509_V_ERR_CERT_CHAIN_TOO_LONG: return .tooLong(limit: 8)
        case X509_V_ERR_CA_MD_TOO_WEAK: return .weak(subject: subject, what: "signed with \(certificate.signatureAlgorithm)")
        default: return .other(subject: subject, reason: String(cString: X509_verify_cert_error_string(Int(code))))
        }
    }

    /// OpenSSL does not say why it passed over a certificate that carries the issuer's name.
    private func missingIssuer(_ certificate: Certificate, _ subject: String) -> ChainFault {
        let wanted = X509_get_issuer_name(certificate.raw)
        let candidate = (anchors + chain.others).first { X509_NAME_cmp(X509_get_subject_name($0.raw), wanted) == 0 }
        guard let candidate, !candidate.isSame(as: certificate) else {
            return .unknownIssuer(subject: subject, issuer: certificate.issuer)
        }
        if certificate.isIssued(by: candidate) { return .unknownIssuer(subject: subject, issuer: certificate.issuer) }  // a loop
        return .badSignature(subject: subject, issuer: candidate.subject)
    }
}
