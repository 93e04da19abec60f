import COpenSSL
import Glibc

/// What a new certificate is for: decides its constraints and usages, RFC 5280 sections 4.2.1.3, 4.2.1.9 and 4.2.1.12.
package enum CertificateRole: Sendable, Equatable {
    /// A root: CA:true without a limit.
    case root
    /// A CA below another one; `pathLength` CAs may follow below it.
    case intermediate(pathLength: Int)
    /// A TLS server with these names.
    case server(names: [AlternativeName])
    /// A TLS client: a device, or the proof of possession of a CA key.
    case client

    /// Whether its holder issues others.
    package var isCA: Bool {
        switch self {
        case .root, .intermediate: true
        case .server, .client: false
        }
    }
}

/// A certificate and its private key, ready to issue others.
package struct CertificateAuthority: Sendable {
    package let certificate: Certificate
    package let key: PrivateKey

    /// Throws `keyMismatch`, and `issuer` when the certificate may not issue others.
    package init(certificate: Certificate, key: PrivateKey) throws(CertificateError) {
        guard key.matches(certificate) else { throw .keyMismatch }
        guard certificate.isCA else { throw .issuer("\(certificate.subject) is not a CA") }
        if let usage = certificate.keyUsage, !usage.contains(.keyCertSign) {
            throw .issuer("\(certificate.subject) may not sign certificates: its key usage is \(usage)")
        }
        self.certificate = certificate
        self.key = key
    }

    /// Issues a certificate for `subject`'s key; it ends when the issuer does, if that is earlier.
    ///
    /// - Parameters:
    ///   - commonName: 1 to 64 characters (RFC 5280 appendix A.1); nil leaves the subject empty, for servers with names only.
    ///   - seconds: from `now`; validity begins five minutes earlier, for clocks that are behind.
    ///   - now: unix seconds.
    package func issue(
        _ role: CertificateRole, commonName: String?, for subject: PrivateKey, seconds: Int64, now: Int64
    ) throws(CertificateError) -> Certificate {
        try issue(role, commonName: commonName, toHolderOf: subject.raw, seconds: seconds, now: now)
    }

    /// The same for the key of a request, whose holder has proved to have it. The names are ours to choose: nothing else of what was
    /// asked for is taken over.
    package func issue(
        _ role: CertificateRole, commonName: String?, for request: CertificateRequest, seconds: Int64, now: Int64
    ) throws(CertificateError) -> Certificate {
        try issue(role, commonName: commonName, toHolderOf: request.publicKey, seconds: seconds, now: now)
    }

    /// - Parameter subject: an EVP_PKEY*, of which the public half counts.
    private func issue(
        _ role: CertificateRole, commonName: String?, toHolderOf subject: OpaquePointer?, seconds: Int64, now: Int64
    ) throws(CertificateError) -> Certificate {
        if role.isCA {
            guard certificate.pathLength != 0 else {
                throw .issuer("\(certificate.subject) has path length 0: no CA may follow below it")
            }
            if let limit = certificate.pathLength, case .intermediate(let wanted) = role, wanted >= limit {
                throw .issuer("\(certificate.subject) has path length \(limit): the next CA has at most \(limit - 1)")
            }
        }
        let validity = try validityPeriod(seconds: seconds, now: now)
        let draft = try CertificateDraft()
        try draft.setSubject(commonName)
        try draft.setPublicKey(of: subject)
        try draft.setValidity(from: validity.from, until: validity.until)
        try draft.setIssuer(certificate.raw)
        try draft.add(role, issuedBy: certificate.raw, commonName: commonName, rsa: EVP_PKEY_get_base_id(subject) == EVP_PKEY_RSA)
        return try draft.signed(with: key)
    }

    /// The same names and usages with a new validity and serial number.
    /// - Parameter subject: the key in place of the old one; nil: the key stays.
    package func renew(
        _ old: Certificate, rollingTo subject: PrivateKey? = nil, seconds: Int64, now: Int64
    ) throws(CertificateError) -> Certificate {
        let validity = try validityPeriod(seconds: seconds, now: now)
        return try CertificateDraft.renewal(
            of: old, issuedBy: certificate, key: key, rollingTo: subject, from: validity.from, until: validity.until)
    }

    private func validityPeriod(seconds: Int64, now: Int64) throws(CertificateError) -> (from: Int64, until: Int64) {
        guard certificate.notAfter > now else {
            throw .issuerDates("\(certificate.subject) expired on \(CertificateTime.text(certificate.notAfter))")
        }
        guard certificate.notBefore <= now else {
            throw .issuerDates("\(certificate.subject) is not valid before \(CertificateTime.text(certificate.notBefore))")
        }
        return (max(certificate.notBefore, now - 300), min(certificate.notAfter, CertificateDraft.end(of: seconds, from: now)))
    }
}

extension Certificate {
    /// Makes a root: issued by itself, CA without a path limit. Units as in `CertificateAuthority.issue`.
    package static func root(
        commonName: String, key: PrivateKey, seconds: Int64, now: Int64
    ) throws(CertificateError) -> Certificate {
        let draft = try CertificateDraft()
        try draft.setSubject(commonName)
        try draft.setPublicKey(of: key.raw)
        try draft.setValidity(from: now - 300, until: CertificateDraft.end(of: seconds, from: now))
        try draft.setIssuer(draft.raw)
        try draft.add(.root, issuedBy: draft.raw, commonName: commonName, rsa: false)
        return try draft.signed(with: key)
    }

    /// Makes a certificate that only carries a key from one end of a stream to the other: self-signed, no CA, any use, without an end
    /// (RFC 5280 section 4.1.2.5), so that no clock matters. Whoever gets it looks at the key alone.
    /// - Parameter commonName: for people to read; what is longer than 64 characters is cut.
    package static func bearer(of key: PrivateKey, commonName: String) throws(CertificateError) -> Certificate {
        let draft = try CertificateDraft()
        try draft.setSubject(String(String.UnicodeScalarView(commonName.unicodeScalars.prefix(64))))
        try draft.setPublicKey(of: key.raw)
        try draft.setValidity(from: 1_577_836_800, until: CertificateDraft.end(of: .max, from: 0))
        try draft.setIssuer(draft.raw)
        try draft.addKeyIdentifiers(draft.raw)
        return try draft.signed(with: key)
    }

    /// A self-signed certificate once more, with a new validity and serial number.
    /// - Parameter isRolled: the key is another one, which signs now.
    package func renewedBySelf(key: PrivateKey, isRolled: Bool = false, seconds: Int64, now: Int64) throws(CertificateError) -> Certificate
    {
        guard isRolled || key.matches(self) else { throw .keyMismatch }
        let until = CertificateDraft.end(of: seconds, from: now)
        return try CertificateDraft.renewal(
            of: self, issuedBy: self, key: key, rollingTo: isRolled ? key : nil, from: now - 300, until: until)
    }
}
