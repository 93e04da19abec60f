import COpenSSL

/// What a client's session remembers for OpenSSL's callbacks, which find it at the SSL*.
final class TLSClientNotes {
    let host: String
    let cache: TLSSessionCache?
    private let context: UInt64
    private(set) var refusal: String?
    /// Whether a ticket was offered.
    private(set) var hasOffered = false

    init(host: String, context: TLSContext, cache: TLSSessionCache?) {
        self.host = host
        self.context = context.serial
        self.cache = cache
    }

    /// Makes the notes known to `ssl`, which they must outlive, and offers it a ticket.
    func attach(to ssl: OpaquePointer) -> Bool {
        guard SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque()) == 1 else { return false }
        hasOffered = cache?.offer(to: ssl, host: host, context: context) ?? false
        return true
    }

    static func of(ssl: OpaquePointer) -> TLSClientNotes? {
        SSL_get_ex_data(ssl, 0).map { Unmanaged<TLSClientNotes>.fromOpaque($0).takeUnretainedValue() }
    }

    /// The notes of the handshake that verifies in `store`, an X509_STORE_CTX*.
    static func of(_ store: OpaquePointer) -> TLSClientNotes? {
        guard let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()) else { return nil }
        return of(ssl: OpaquePointer(ssl))
    }

    /// Takes over a reference when there is a cache to put it in.
    func keep(_ session: OpaquePointer) -> Bool {
        guard let cache else { return false }
        cache.keep(session, host: host, context: context)
        return true
    }

    /// Writes down why the server's certificate is refused, the first time.
    func note(_ store: OpaquePointer) {
        guard refusal == nil else { return }
        let code = X509_STORE_CTX_get_error(store)
        let certificate = X509_STORE_CTX_get_current_cert(store).flatMap { try? Certificate(sharing: $0) }
        refusal = Self.explain(code, certificate, host: host)
    }

    /// In words. They keep OpenSSL's own, by which people search.
    private static func explain(_ code: CInt, _ certificate: Certificate?, host: String) -> String {
        let words = String(cString: X509_verify_cert_error_string(Int(code)))
        guard let certificate else { return words }
        let subject = certificate.subject.isEmpty ? "without a name" : certificate.subject
        switch code {
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            let names = certificate.alternativeNames
            let listed = names.prefix(4).map(\.description).joined(separator: ", ") + (names.count > 4 ? ", ..." : "")
            return "hostname mismatch: not for \(host.printable), its names are \(names.isEmpty ? "none" : listed)"
        case X509_V_ERR_CERT_HAS_EXPIRED: return "certificate has expired on \(CertificateTime.text(certificate.notAfter)) (\(subject))"
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return "certificate is not yet valid, it begins on \(CertificateTime.text(certificate.notBefore)) (\(subject))"
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            return "unknown authority: no issuer certificate \(certificate.issuer) at hand"
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
            return "unknown authority: self-signed certificate \(subject) is not trusted"
        default: return "\(words) (\(subject))"
        }
    }
}
