import COpenSSL
import LinuxIO
import Synchronization

/// What sessions are made from: versions, ciphers, certificate and key, trust. Immutable once made, so that a new one
/// replaces it whole and running sessions keep the old.
///
/// Unchecked Sendable: an SSL_CTX counts its references with atomics and locks its caches itself.
package final class TLSContext: @unchecked Sendable {
    let raw: OpaquePointer  // SSL_CTX*
    /// Differs between any two contexts of a process.
    let serial: UInt64
    private let tickets: TLSTicketKeys?, sessions: TLSServerSessions?  // the SSL_CTX points to them
    private static let lastSerial = Atomic<UInt64>(0)

    private init(_ raw: OpaquePointer, tickets: TLSTicketKeys?, sessions: TLSServerSessions?) {
        self.raw = raw
        self.tickets = tickets
        self.sessions = sessions
        serial = Self.lastSerial.add(1, ordering: .relaxed).newValue
    }

    deinit { SSL_CTX_free(raw) }

    /// What every context shares: TLS 1.2 and 1.3, AEAD and ECDHE first, no renegotiation, buffers given back when idle.
    private static func make(
        _ method: OpaquePointer?, tickets: TLSTicketKeys? = nil, sessions: TLSServerSessions? = nil
    ) throws(TLSError) -> TLSContext {
        ERR_clear_error()
        guard let raw = SSL_CTX_new(method) else { throw .failed(TLSError.takeReason()) }
        let context = TLSContext(raw, tickets: tickets, sessions: sessions)
        _ = cssl_ctx_set_max_cert_list(raw, 32 << 10)  // a stranger's certificates are kept for as long as its connection
        _ = cssl_ctx_set_mode(
            raw, Int(SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER) | Int(SSL_MODE_RELEASE_BUFFERS))
        SSL_CTX_set_options(raw, cssl_options())
        guard cssl_ctx_set_min_version(raw, TLS1_2_VERSION) == 1, cssl_ctx_set_groups(raw, "X25519:P-256:P-384") == 1 else {
            throw .failed(TLSError.takeReason())
        }
        try context.use(.here)
        return context
    }

    /// Offers these ciphers in their order, and as a server takes the first that the client has too. A client that puts ChaCha20 first
    /// has no instructions for AES, and gets it.
    func use(_ ciphers: TLSCiphers) throws(TLSError) {
        guard SSL_CTX_set_cipher_list(raw, ciphers.list) == 1, SSL_CTX_set_ciphersuites(raw, ciphers.suites) == 1 else {
            throw .failed(TLSError.takeReason())
        }
    }

    /// A server's context. A client certificate is asked for and never required; any is let through the handshake, which
    /// proves possession, and the decision is taken once the identity is known (attestation section 6).
    ///
    /// - Parameters:
    ///   - certificatePath: PEM, leaf first, then intermediates.
    ///   - keyPath: PEM, unencrypted.
    ///   - tickets: the keys of session tickets, shared by the contexts of one process.
    package static func server(
        certificatePath: String, keyPath: String, tickets: TLSTicketKeys
    ) throws(TLSError) -> TLSContext {
        let context = try make(TLS_server_method(), tickets: tickets)
        try context.use(certificatePath: certificatePath, keyPath: keyPath)
        context.askForCertificates()
        try context.sealTickets(with: tickets)
        return context
    }

    /// The device's side of end-to-end sessions: TLS 1.3 only. The client's certificate is asked for; whether its key may come in is for
    /// the owner to say once the handshake is over, from `peerChain`.
    /// Sessions that clients resume are kept by the context itself, and end with it.
    package static func endToEndServer(chain: CertificateChain, key: PrivateKey) throws(TLSError) -> TLSContext {
        let sessions = TLSServerSessions()
        let context = try make(TLS_server_method(), sessions: sessions)
        try context.beEndToEnd(chain, key)
        guard sessions.install(in: context.raw) else { throw .failed(TLSError.takeReason()) }
        try context.offerOneTicket()
        TLSProtocolName.select(in: context.raw)
        TLSProtocolName.judge(in: context.raw)
        return context
    }

    /// The service's side of end-to-end sessions: TLS 1.3 only. It shows its certificate when asked; whose key the device has shown is for
    /// the owner to judge once the handshake is over, from `peerChain`, which a resumed session has as well.
    package static func endToEndClient(chain: CertificateChain, key: PrivateKey) throws(TLSError) -> TLSContext {
        let context = try make(TLS_client_method())
        try context.beEndToEnd(chain, key)
        context.keepTickets()
        return context
    }

    private func beEndToEnd(_ chain: CertificateChain, _ key: PrivateKey) throws(TLSError) {
        guard cssl_ctx_set_min_version(raw, TLS1_3_VERSION) == 1 else { throw .failed(TLSError.takeReason()) }
        guard key.matches(chain.leaf) else { throw .failed("the private key does not belong to the certificate") }
        try use(chain, key)
        askForCertificates()
    }

    /// Whatever the peer shows passes the handshake, which proves that it has the key; no chain is even built.
    private func askForCertificates() {
        SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, nil)
        SSL_CTX_set_cert_verify_callback(raw, { _, _ in 1 }, nil)
    }

    /// Sessions go to the client, sealed, and leave nothing here.
    private func sealTickets(with tickets: TLSTicketKeys) throws(TLSError) {
        _ = cssl_ctx_set_cache_mode(raw, Int(SSL_SESS_CACHE_OFF))
        guard tickets.install(in: raw), TLSTicketChain.install(in: raw) else { throw .failed(TLSError.takeReason()) }
        try offerOneTicket()
    }

    private func offerOneTicket() throws(TLSError) {
        let name = Array("iotstream".utf8)
        guard SSL_CTX_set_session_id_context(raw, name, UInt32(name.count)) == 1 else { throw .failed(TLSError.takeReason()) }
        _ = SSL_CTX_set_timeout(raw, Int(TLSTicketKeys.lifetimeSeconds))
        SSL_CTX_set_num_tickets(raw, 1)
    }

    /// What a server sends goes to the cache that its session was given.
    private func keepTickets() {
        _ = cssl_ctx_set_cache_mode(raw, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
        SSL_CTX_sess_set_new_cb(raw) { ssl, session in
            guard let ssl, let session, let notes = TLSClientNotes.of(ssl: ssl) else { return 0 }
            return notes.keep(session) ? 1 : 0
        }
    }

    /// A client's context, which verifies chain and host name.
    ///
    /// - Parameters:
    ///   - authorityPath: PEM of the roots to trust; nil for the system's store.
    ///   - identity: the client's own certificate chain, where it has one, with its key.
    ///   - takesNotYetValid: a certificate whose time has not come yet will do. For devices without a battery for their clock, which start
    ///     in the past; one that has expired is refused all the same.
    package static func client(
        authorityPath: String?, identity: (chain: CertificateChain, key: PrivateKey)? = nil, takesNotYetValid: Bool = false
    ) throws(TLSError) -> TLSContext {
        let context = try make(TLS_client_method())
        if let authorityPath {
            guard SSL_CTX_load_verify_file(context.raw, authorityPath) == 1 else {
                throw .file(path: authorityPath, reason: Self.whyUnreadable(authorityPath))
            }
        } else {
            guard SSL_CTX_set_default_verify_paths(context.raw) == 1 else { throw .failed(TLSError.takeReason()) }
        }
        if let identity { try context.use(identity.chain, identity.key) }
        if takesNotYetValid {
            SSL_CTX_set_verify(context.raw, SSL_VERIFY_PEER) { isGood, store in
                guard isGood != 1, let store else { return isGood }
                if X509_STORE_CTX_get_error(store) == X509_V_ERR_CERT_NOT_YET_VALID {
                    X509_STORE_CTX_set_error(store, X509_V_OK)
                    return 1
                }
                TLSClientNotes.of(store)?.note(store)
                return 0
            }
        } else {
            SSL_CTX_set_verify(context.raw, SSL_VERIFY_PEER) { isGood, store in
                if isGood != 1, let store { TLSClientNotes.of(store)?.note(store) }
                return isGood
            }
        }
        context.keepTickets()
        return context
    }

    private func use(certificatePath: String, keyPath: String) throws(TLSError) {
        let chain: CertificateChain, key: PrivateKey
        do throws(CertificateError) { chain = try CertificateChain(path: certificatePath) } catch {
            throw .file(path: certificatePath, reason: error.reason)
        }
        do throws(CertificateError) { key = try PrivateKey(path: keyPath) } catch { throw .file(path: keyPath, reason: error.reason) }
        guard key.matches(chain.leaf) else {
            throw .file(path: keyPath, reason: "does not belong to the certificate in \(certificatePath)")
        }
        do throws(TLSError) { try use(chain, key) } catch { throw .file(path: certificatePath, reason: error.description) }
    }

    private func use(_ chain: CertificateChain, _ key: PrivateKey) throws(TLSError) {
        guard let others = cssl_sk_x509_new() else { throw .failed("out of memory") }
        defer { cssl_sk_x509_free(others) }
        for other in chain.others { _ = cssl_sk_x509_push(others, other.raw) }
        guard SSL_CTX_use_cert_and_key(raw, chain.leaf.raw, key.raw, others, 1) == 1 else { throw .failed(TLSError.takeReason()) }
    }

    /// What people can understand of a file with roots that OpenSSL could not load.
    private static func whyUnreadable(_ path: String) -> String {
        let reason = TLSError.takeReason()
        do throws(CertificateError) {
            _ = try CertificateChain(path: path)
            return reason
        } catch {
            return error.reason
        }
    }
}

extension CertificateError {
    /// The description without the path, for texts that begin with it.
    fileprivate var reason: String {
        if case .unreadable(_, let code) = self { SystemError("open", code).reason } else { description }
    }
}
