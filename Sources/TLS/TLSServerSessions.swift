import COpenSSL
import LinuxIO
import Synchronization

/// The sessions that a server keeps so that its clients can resume: a ticket is no more than the name of one (RFC 8446 section 4.6.1).
///
/// For a server with few clients, all of which show certificates. A ticket that carries the session carries the client's certificate,
/// and writing and reading that takes twice the time of the rest of the handshake. What is kept here keeps nothing to itself either:
/// it is gone with the process, no key opens it later, and as many as there may be are as large as they may be.
final class TLSServerSessions: Sendable {
    /// A client that has proved by its signature that it has the key of the first certificate.
    struct Proof {
        /// DER, leaf first; empty for a client that showed no certificate.
        let chain: [[UInt8]]
        /// Unix seconds.
        let at: Int64
    }

    private struct Kept: @unchecked Sendable {
        let raw: OpaquePointer  // SSL_SESSION*, counted with atomics
        let proof: Proof
    }

    /// How many are kept; the oldest goes first.
    static let limit = 128
    /// The longest chain of a client whose session is kept, in bytes of DER.
    static let chainLimit = 8192

    private let sessions = Mutex<[Kept]>([])  // newest last

    deinit { for kept in sessions.withLock({ $0 }) { SSL_SESSION_free(kept.raw) } }

    /// How many there are.
    var count: Int { sessions.withLock { $0.count } }

    /// Makes a server's context keep its sessions here, which must outlive it.
    func install(in context: OpaquePointer) -> Bool {
        SSL_CTX_set_options(context, cssl_option_no_ticket())
        _ = cssl_ctx_set_cache_mode(context, Int(SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL))
        SSL_CTX_sess_set_new_cb(context) { ssl, session in
            guard let ssl, let session, let home = TLSServerSessions.of(ssl) else { return 0 }
            return home.keep(session, of: ssl) ? 1 : 0
        }
        SSL_CTX_sess_set_get_cb(context) { ssl, name, count, copies in
            copies?.pointee = 0  // a reference of its own goes with what we give
            guard let ssl, let name, let home = TLSServerSessions.of(ssl) else { return nil }
            return home.find(UnsafeRawBufferPointer(start: name, count: Int(count)), for: ssl)
        }
        return SSL_CTX_set_ex_data(context, 0, Unmanaged.passUnretained(self).toOpaque()) == 1
    }

    private static func of(_ ssl: OpaquePointer) -> TLSServerSessions? {
        SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), 0).map { Unmanaged<TLSServerSessions>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Takes over a reference, unless the client's chain is too long. A resumed session has the proof of the one that it goes back to.
    private func keep(_ session: OpaquePointer, of ssl: OpaquePointer) -> Bool {
        guard let name = TLSProtocolName.of(ssl) else { return false }
        let proof: Proof
        if SSL_session_reused(ssl) == 1 {
            guard let resumed = name.resumed else { return false }
            proof = resumed
        } else {
            proof = Proof(chain: TLSTicketChain.presented(to: ssl), at: Clock.unixSeconds)
            guard proof.chain.reduce(0, { $0 + $1.count }) <= Self.chainLimit else { return false }
        }
        let dropped = sessions.withLock { sessions in
            sessions.append(Kept(raw: session, proof: proof))
            return sessions.count > Self.limit ? sessions.removeFirst() : nil
        }
        if let dropped { SSL_SESSION_free(dropped.raw) }
        return true
    }

    /// The session of this name with a reference for the caller; nil for one that is not there, too old, or of a client that is not let in
    /// any more: it then makes a full handshake, and is refused there by an alert.
    private func find(_ name: UnsafeRawBufferPointer, for ssl: OpaquePointer) -> OpaquePointer? {
        let found = sessions.withLock { sessions -> Kept? in
            guard let kept = sessions.last(where: { Self.isNamed($0.raw, name) }) else { return nil }
            SSL_SESSION_up_ref(kept.raw)
            return kept
        }
        guard let found else { return nil }
        let now = Clock.unixSeconds
        guard let note = TLSProtocolName.of(ssl), TLSTicketChain.isFresh(provenAt: found.proof.at, now: now),
            SSL_SESSION_is_resumable(found.raw) == 1, found.proof.chain.isEmpty || note.admits(found.proof.chain)
        else {
            SSL_SESSION_free(found.raw)
            return nil
        }
        note.resumed = found.proof
        return found.raw
    }

    private static func isNamed(_ session: OpaquePointer, _ name: UnsafeRawBufferPointer) -> Bool {
        var count: UInt32 = 0
        let bytes = SSL_SESSION_get_id(session, &count)
        return UnsafeRawBufferPointer(start: bytes, count: Int(count)).elementsEqual(name)
    }
}
