import COpenSSL

/// The certificates of one file: a leaf and those above it, or a bundle of roots.
package struct CertificateChain: Sendable {
    /// At least one, in the order of the file.
    package let certificates: [Certificate]
    /// The first certificate.
    package let leaf: Certificate
    /// Every certificate after the first.
    package var others: ArraySlice<Certificate> { certificates.dropFirst() }

    /// PEM text with at least one certificate, or one certificate as DER.
    package init(bytes: [UInt8]) throws(CertificateError) {
        if bytes.first == 0x30 {
            leaf = try Certificate(der: bytes)
            certificates = [leaf]
            return
        }
        let all = try Self.parse(pem: bytes)
        guard let first = all.first else { throw .noCertificate }
        leaf = first
        certificates = all
    }

    /// Reads a file of PEM or DER.
    package init(path: String) throws(CertificateError) {
        try self.init(bytes: CredentialFile.read(path))
    }

    /// Puts certificates together, leaf first.
    package init(leaf: Certificate, others: some Sequence<Certificate>) {
        self.leaf = leaf
        certificates = [leaf] + others
    }

    /// All certificates as PEM text, in order.
    package var pem: String { certificates.map(\.pem).joined() }

    /// Every certificate in PEM text; other blocks and the text between them are passed over, a damaged block is an error.
    static func parse(pem: [UInt8]) throws(CertificateError) -> [Certificate] {
        guard pem.count <= CredentialFile.limit else { throw .tooLarge(limit: CredentialFile.limit) }
        guard !pem.isEmpty else { return [] }
        var raws: [OpaquePointer] = []
        var damage: String?
        ERR_clear_error()
        MemoryBIO.reading(pem) { bio in
            while let raw = PEM_read_bio_X509(bio, nil, PrivateKey.noPassword, nil) { raws.append(raw) }
            let code = ERR_peek_last_error()
            let ended = cssl_err_lib(code) == ERR_LIB_PEM && cssl_err_reason(code) == PEM_R_NO_START_LINE
            if ended { ERR_clear_error() } else { damage = CertificateError.lastReason() }
        }
        var certificates: [Certificate] = []
        for raw in raws {
            do throws(CertificateError) { certificates.append(try Certificate(adopting: raw)) } catch { damage = "\(error)" }
        }
        if let damage { throw .malformed("certificate \(certificates.count + 1) of the file: \(damage)") }
        return certificates
    }
}
