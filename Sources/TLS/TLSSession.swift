import COpenSSL
import Glibc
import LinuxIO

/// What one call on a session came to. `blocked(onWrite:)` is progress, not an error.
package enum TLSProgress: Equatable {
    case done(Int)
    case blocked(onWrite: Bool)
    /// The peer said close_notify.
    case closed
}

/// One TLS session over a socket that somebody else owns and keeps open for longer.
///
/// Unchecked Sendable: an SSL* has no thread affinity, it only wants one user at a time, and `~Copyable` sees to that.
package struct TLSSession: ~Copyable, @unchecked Sendable {
    private let ssl: OpaquePointer  // SSL*
    private let cache: TLSSessionCache?

    /// The server's side of a session; the handshake runs in `handshake`.
    package init(acceptingOn socket: CInt, _ context: TLSContext) throws(TLSError) {
        ssl = try Self.open(socket, context)
        cache = nil
        SSL_set_accept_state(ssl)
    }

    /// The client's side: sends `host` as SNI unless it is an address, and verifies the certificate against it.
    package init(
        connectingOn socket: CInt, _ context: TLSContext, host: String, cache: TLSSessionCache? = nil
    ) throws(TLSError) {
        let session = try Self.open(socket, context)
        let literal = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        let isReady =
            SocketAddress(address: host, port: 0) != nil
            ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), literal) == 1
            : cssl_set_host_name(session, host) == 1 && SSL_set1_host(session, host) == 1
        guard isReady else {
            let reason = TLSError.takeReason()
            SSL_free(session)
            throw .failed(reason)
        }
        if let cache {
            SSL_set_ex_data(session, 0, Unmanaged.passUnretained(cache).toOpaque())
            cache.offer(to: session)
        }
        SSL_set_connect_state(session)
        self.cache = cache
        ssl = session
    }

    deinit {
        // Otherwise OpenSSL takes a connection that just ends for an attack, and its ticket for spoilt.
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        SSL_free(ssl)
    }

    private static func open(_ socket: CInt, _ context: TLSContext) throws(TLSError) -> OpaquePointer {
        guard let ssl = SSL_new(context.raw) else { throw .failed(TLSError.takeReason()) }
        guard SSL_set_fd(ssl, socket) == 1 else {
            let reason = TLSError.takeReason()
            SSL_free(ssl)
            throw .failed(reason)
        }
        return ssl
    }

    /// Goes on with the handshake; `done` once it is finished.
    package func handshake() throws(TLSError) -> TLSProgress {
        let result = SSL_do_handshake(ssl)
        if result == 1 { return .done(0) }
        return try verdict(result)
    }

    package func read(into room: UnsafeMutableRawBufferPointer) throws(TLSError) -> TLSProgress {
        var count = 0
        let result = SSL_read_ex(ssl, room.baseAddress, room.count, &count)
        return result == 1 ? .done(count) : try verdict(result)
    }

    /// Takes a part or all of `bytes`; offer the same bytes again after `blocked`.
    package func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> TLSProgress {
        var count = 0
        let result = SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &count)
        return result == 1 ? .done(count) : try verdict(result)
    }

    /// Says close_notify, once; what the peer still sends can be read. `closed` when both have said it.
    package func sayGoodbye() throws(TLSError) -> TLSProgress {
        let result = SSL_shutdown(ssl)
        switch result {
        case 0: return .done(0)
        case 1: return .closed
        default: return try verdict(result)
        }
    }

    /// Everything the peer presented, leaf first, as DER; empty when it showed none. On a server also for a resumed session.
    package var peerChain: [[UInt8]] { Self.wholeChain(of: ssl) }

    static func wholeChain(of ssl: OpaquePointer) -> [[UInt8]] {
        let presented = presentedChain(of: ssl)
        guard SSL_session_reused(ssl) == 1, let session = SSL_get_session(ssl) else { return presented }
        let kept = TLSTicketChain.chain(of: session)
        return kept.first == presented.first ? kept : presented
    }

    /// What came in this handshake, and on a resumed session the leaf alone.
    private static func presentedChain(of ssl: OpaquePointer) -> [[UInt8]] {
        var chain: [[UInt8]] = []
        if let leaf = SSL_get1_peer_certificate(ssl) {
            chain.append(encoded(leaf))
            X509_free(leaf)
        }
        guard let stack = SSL_get_peer_cert_chain(ssl) else { return chain }
        for index in 0..<cssl_sk_x509_num(stack) {
            guard let certificate = cssl_sk_x509_value(stack, index) else { continue }
            let bytes = encoded(certificate)
            if bytes != chain.first { chain.append(bytes) }  // a client's own list begins with the leaf again
        }
        return chain
    }

    /// Whether the handshake resumed an earlier session.
    package var isResumed: Bool { SSL_session_reused(ssl) == 1 }

    /// `TLSv1.3`.
    package var version: String { String(cString: SSL_get_version(ssl)) }

    static func encoded(_ certificate: OpaquePointer) -> [UInt8] {
        let length = i2d_X509(certificate, nil)
        guard length > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: Int(length)) { buffer, count in
            var next = buffer.baseAddress
            count = Int(max(0, i2d_X509(certificate, &next)))
        }
    }

    private func verdict(_ result: CInt) throws(TLSError) -> TLSProgress {
        let number = errno
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .blocked(onWrite: false)
        case SSL_ERROR_WANT_WRITE: return .blocked(onWrite: true)
        case SSL_ERROR_ZERO_RETURN: return .closed
        case SSL_ERROR_SYSCALL:
            ERR_clear_error()
            throw number == 0 ? .truncated : .failed(SystemError("read", number).reason)
        default:
            if cssl_is_unexpected_eof(ERR_peek_error()) == 1 {
                ERR_clear_error()
                throw .truncated
            }
            let verdict = SSL_get_verify_result(ssl)
            if SSL_is_server(ssl) == 0, verdict != Int(X509_V_OK), SSL_is_init_finished(ssl) == 0 {
                ERR_clear_error()
                throw .certificateRefused(String(cString: X509_verify_cert_error_string(verdict)))
            }
            throw .failed(TLSError.takeReason())
        }
    }
}
