import COpenSSL
import LinuxIO

/// What sessions are made from: versions, ciphers, certificate and key, trust. Immutable once made, so that a new one
/// replaces it whole and running sessions keep the old.
///
/// Unchecked Sendable: an SSL_CTX counts its references with atomics and locks its caches itself.
package final class TLSContext: @unchecked Sendable {
    let raw: OpaquePointer  // SSL_CTX*
    private let isServer: Bool

    private init(_ raw: OpaquePointer, isServer: Bool) {
        self.raw = raw
        self.isServer = isServer
    }

    deinit { SSL_CTX_free(raw) }

    /// What every context shares: TLS 1.2 and 1.3, AEAD and ECDHE first, no renegotiation, buffers given back when idle.
    private static func make(isServer: Bool) throws(TLSError) -> TLSContext {
        guard let raw = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else { throw .failed(TLSError.takeReason()) }
        let context = TLSContext(raw, isServer: isServer)
        _ = cssl_ctx_set_mode(
            raw, Int(SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER) | Int(SSL_MODE_RELEASE_BUFFERS))
        SSL_CTX_set_options(raw, cssl_options())
        guard cssl_ctx_set_min_version(raw, TLS1_2_VERSION) == 1,
            SSL_CTX_set_cipher_list(raw, cipherList) == 1,
            SSL_CTX_set_ciphersuites(raw, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1,
            cssl_ctx_set_groups(raw, "X25519:P-256:P-384") == 1
        else { throw .failed(TLSError.takeReason()) }
        return context
    }

    /// TLS 1.2 suites of attestation section 6; the CBC ones are for constrained devices and come last.
    private static let cipherList =
        "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384"

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
        let context = try make(isServer: true)
        try context.use(certificatePath: certificatePath, keyPath: keyPath)
        SSL_CTX_set_verify(context.raw, SSL_VERIFY_PEER) { _, _ in 1 }
        let name = Array("iotstream".utf8)
        guard SSL_CTX_set_session_id_context(context.raw, name, UInt32(name.count)) == 1 else { throw .failed(TLSError.takeReason()) }
        _ = cssl_ctx_set_cache_mode(context.raw, Int(SSL_SESS_CACHE_OFF))  // tickets carry the state
        guard tickets.install(in: context.raw), TLSTicketChain.install(in: context.raw) else { throw .failed(TLSError.takeReason()) }
        SSL_CTX_set_num_tickets(context.raw, 1)
        return context
    }

    /// A client's context, which verifies chain and host name.
    ///
    /// - Parameters:
    ///   - authorityPath: PEM of the roots to trust; nil for the system's store.
    ///   - certificatePath: the client's own certificate chain, where it has one, with its key.
    ///   - takesNotYetValid: a certificate whose time has not come yet will do. For devices without a battery for their clock, which start
    ///     in the past; one that has expired is refused all the same.
    package static func client(
        authorityPath: String?, certificatePath: String? = nil, keyPath: String? = nil, takesNotYetValid: Bool = false
    ) throws(TLSError) -> TLSContext {
        let context = try make(isServer: false)
        if let authorityPath {
            guard SSL_CTX_load_verify_file(context.raw, authorityPath) == 1 else {
                throw .file(path: authorityPath, reason: TLSError.takeReason())
            }
        } else {
            guard SSL_CTX_set_default_verify_paths(context.raw) == 1 else { throw .failed(TLSError.takeReason()) }
        }
        if let certificatePath, let keyPath { try context.use(certificatePath: certificatePath, keyPath: keyPath) }
        if takesNotYetValid {
            SSL_CTX_set_verify(context.raw, SSL_VERIFY_PEER) { isGood, store in
                guard isGood != 1, X509_STORE_CTX_get_error(store) == X509_V_ERR_CERT_NOT_YET_VALID else { return isGood }
                X509_STORE_CTX_set_error(store, X509_V_OK)
                return 1
            }
        } else {
            SSL_CTX_set_verify(context.raw, SSL_VERIFY_PEER, nil)
        }
        _ = cssl_ctx_set_cache_mode(context.raw, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
        SSL_CTX_sess_set_new_cb(context.raw) { session, ticket in
            guard let session, let owner = SSL_get_ex_data(session, 0) else { return 0 }
            Unmanaged<TLSSessionCache>.fromOpaque(owner).takeUnretainedValue().keep(ticket)
            return 1
        }
        return context
    }

    private func use(certificatePath: String, keyPath: String) throws(TLSError) {
        guard SSL_CTX_use_certificate_chain_file(raw, certificatePath) == 1 else {
            throw .file(path: certificatePath, reason: TLSError.takeReason())
        }
        guard SSL_CTX_use_PrivateKey_file(raw, keyPath, SSL_FILETYPE_PEM) == 1 else {
            throw .file(path: keyPath, reason: TLSError.takeReason())
        }
        guard SSL_CTX_check_private_key(raw) == 1 else {
            throw .file(path: keyPath, reason: "does not belong to the certificate in \(certificatePath)")
        }
    }
}

/// The secret under which session tickets are sealed. One for a process, so that a session resumes on any reactor and
/// after a reload of the certificate.
package final class TLSTicketKeys: Sendable {
    private let bytes: [UInt8]

    package init() {
        var fresh = [UInt8](repeating: 0, count: 80)
        _ = RAND_priv_bytes(&fresh, CInt(fresh.count))
        bytes = fresh
    }

    func install(in context: OpaquePointer) -> Bool {
        var copy = bytes
        return cssl_ctx_set_ticket_keys(context, &copy, copy.count) == 1
    }
}
