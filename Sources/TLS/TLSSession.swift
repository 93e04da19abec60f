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
    private let context: TLSContext  // what OpenSSL's callbacks point to lives as long as the session
    private let notes: TLSClientNotes?
    private let name: TLSProtocolName?
    private var socket: CInt
    let ground: TLSBulkSocket?  // what it is over from its beginning, where the kernel may come to seal
    private var bulk: TLSBulkSocket?  // once it carries bulk, or has left at once

    /// What a session that was begun without a socket says first; empty once it has one.
    package private(set) var firstFlight: [UInt8] = []

    /// Plain bytes in a full record (RFC 8446 section 5.1).
    package static let recordBytes = 16384
    /// What a record may have besides (RFC 8446 section 5.2; TLS 1.2 has less).
    static let recordOverhead = 256 + 5

    /// Makes a session over `socket`, or over memory for one that gets its socket later.
    /// - Parameter prepare: sets up the new SSL*; false throws what OpenSSL has to say of it.
    private init(
        _ socket: CInt?, _ context: TLSContext, notes: TLSClientNotes? = nil, name: TLSProtocolName? = nil, kernelMaySeal: Bool = false,
        _ prepare: (OpaquePointer) -> Bool
    ) throws(TLSError) {
        guard let ssl = SSL_new(context.raw) else { throw .take() }
        let ground = kernelMaySeal ? socket.flatMap { TLSBulkSocket($0, under: ssl, kernelMaySeal: true) } : nil
        guard ground != nil || Self.attach(ssl, to: socket), prepare(ssl) else {
            let error = TLSError.take()
            SSL_free(ssl)
            throw error
        }
        self.ssl = ssl
        self.context = context
        self.socket = socket ?? -1
        self.notes = notes
        self.name = name
        self.ground = ground
    }

    private static func attach(_ ssl: OpaquePointer, to socket: CInt?) -> Bool {
        if let socket { return SSL_set_fd(ssl, socket) == 1 }
        guard let input = BIO_new(BIO_s_mem()) else { return false }
        guard let output = BIO_new(BIO_s_mem()) else {
            BIO_free(input)
            return false
        }
        SSL_set_bio(ssl, input, output)
        return true
    }

    /// The server's side of a session; the handshake runs in `handshake`.
    /// - Parameter kernelMaySeal: whether the kernel may take over what is sent, once much is, and `KernelSealing.isOffered`.
    package init(acceptingOn socket: CInt, _ context: TLSContext, kernelMaySeal: Bool = false) throws(TLSError) {
        try self.init(socket, context, kernelMaySeal: kernelMaySeal) { ssl in
            SSL_set_accept_state(ssl)
            return true
        }
    }

    /// The device's side of an end-to-end session.
    /// - Parameters:
    ///   - protocolName: the one name by which a client may come (ALPN); 1 to 255 bytes.
    ///   - admits: whether a client with this chain (DER, leaf first) is let in; others get the alert bad_certificate, and nobody of
    ///     them resumes an earlier session. Not asked about one that shows no certificate. Where nobody is refused, the handshake of a
    ///     client that resumes is over with our flight: what is written goes ahead of the client's Finished, with which `read` begins.
    package init(
        acceptingOn socket: CInt, endToEnd context: TLSContext, protocolName: String, admits: (@Sendable ([[UInt8]]) -> Bool)? = nil
    ) throws(TLSError) {
        guard let name = TLSProtocolName(protocolName, admits: admits, writesAhead: admits == nil) else {
            throw .failed("no valid protocol name")
        }
        try self.init(socket, context, name: name) { ssl in
            SSL_set_accept_state(ssl)
            SSL_set_read_ahead(ssl, 1)
            return name.expect(in: ssl)
        }
    }

    /// The service's side of an end-to-end session, begun before there is a socket: `firstFlight` is to be sent as soon as there is one,
    /// which `connect` then gives to the session. Sends no SNI.
    /// - Parameters:
    ///   - peer: names the other end in the cache of tickets.
    ///   - protocolName: the one name to offer (ALPN); 1 to 255 bytes.
    package init(connectingEndToEnd context: TLSContext, peer: String, protocolName: String, cache: TLSSessionCache?) throws(TLSError) {
        guard let name = TLSProtocolName(protocolName) else { throw .failed("no valid protocol name") }
        let notes = TLSClientNotes(host: peer, context: context, cache: cache)
        var flight: [UInt8] = []
        try self.init(nil, context, notes: notes, name: name) { ssl in
            SSL_set_connect_state(ssl)
            SSL_set_read_ahead(ssl, 1)
            guard name.offer(in: ssl), notes.attach(to: ssl) else { return false }
            let result = SSL_do_handshake(ssl)
            var start: UnsafeMutablePointer<CChar>?
            let count = cssl_bio_data(SSL_get_wbio(ssl), &start)
            flight = Array(UnsafeRawBufferPointer(start: start, count: max(0, Int(count))))
            return SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ && !flight.isEmpty
        }
        firstFlight = flight
    }

    /// Gives a session that was begun without one its socket, on which nothing but its first flight has been sent and nothing read.
    package mutating func connect(to socket: CInt) throws(TLSError) {
        guard SSL_set_fd(ssl, socket) == 1 else { throw .take() }
        self.socket = socket
        firstFlight = []
    }

    /// The client's side: sends `host` as SNI unless it is an address, and verifies the certificate against it.
    /// - Parameter kernelMaySeal: as on the server's side.
    package init(
        connectingOn socket: CInt, _ context: TLSContext, host: String, cache: TLSSessionCache? = nil, kernelMaySeal: Bool = false
    ) throws(TLSError) {
        let literal = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        let notes = TLSClientNotes(host: literal, context: context, cache: cache)
        try self.init(socket, context, notes: notes, kernelMaySeal: kernelMaySeal) { ssl in
            SSL_set_connect_state(ssl)
            SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
            let isNamed =
                SocketAddress(address: host, port: 0) != nil
                ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), literal) == 1
                : cssl_set_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1
            return isNamed && notes.attach(to: ssl)
        }
    }

    deinit {
        // Otherwise OpenSSL takes a connection that just ends for an attack, and its ticket for spoilt.
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        SSL_free(ssl)
    }

    /// Goes on with the handshake; `done` once it is finished.
    package func handshake() throws(TLSError) -> TLSProgress {
        if let name, name.ahead == .notYet {
            var byte: UInt8 = 0, count = 0
            let result = SSL_read_early_data(ssl, &byte, 0, &count)
            guard result == SSL_READ_EARLY_DATA_FINISH else { return try verdict(onHandshake: 0) }
            name.ahead = isResumed ? .writing : .no
            if isResumed { return .done(0) }
        }
        let result = SSL_do_handshake(ssl)
        if result == 1 {
            name?.ahead = .no
            if let name, !name.isChosen(by: ssl) { throw .failed("the other end did not name the stream") }
            // The chain went into the ticket; without this it would stay in memory a second time.
            if notes == nil, name == nil, !isResumed, let session = SSL_get_session(ssl) {
                SSL_SESSION_set1_ticket_appdata(session, nil, 0)
            }
            return .done(0)
        }
        return try verdict(onHandshake: result)
    }

    private func verdict(onHandshake result: CInt) throws(TLSError) -> TLSProgress {
        do throws(TLSError) {
            let progress = try verdict(result)
            if progress == .closed { throw .cutInHandshake }
            return progress
        } catch {
            if let notes {
                // Whatever was wrong, the next attempt makes a full handshake.
                if notes.hasOffered { notes.cache?.forget() }
                let verdict = SSL_get_verify_result(ssl)
                if verdict != Int(X509_V_OK) {
                    throw .certificateRefused(notes.refusal ?? String(cString: X509_verify_cert_error_string(verdict)))
                }
            }
            throw error == .truncated ? .cutInHandshake : error
        }
    }

    package func read(into room: UnsafeMutableRawBufferPointer) throws(TLSError) -> TLSProgress {
        if name?.ahead == .writing {
            let progress = try handshake()
            guard case .done = progress else { return progress }
        }
        var count = 0
        let result = SSL_read_ex(ssl, room.baseAddress, room.count, &count)
        if result == 1 { return .done(count) }
        let progress = try verdict(result)
        // A ticket that was read has left a buffer for writing, which would stay until something is written.
        if case .blocked = progress, isBetweenRecords { SSL_free_buffers(ssl) }
        return progress
    }

    /// Whether the next thing to come is a record's header. In the middle of a record OpenSSL before 3.0.14 would free a buffer that it
    /// still uses (CVE-2024-4741).
    private var isBetweenRecords: Bool { SSL_rstate_string(ssl).map { $0[0] == 0x52 && $0[1] == 0x48 } ?? false }  // "RH"

    /// Takes a part or all of `bytes`; offer the same bytes again after `blocked`.
    package func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> TLSProgress {
        var count = 0
        let result =
            name?.ahead == .writing
            ? SSL_write_early_data(ssl, bytes.baseAddress, bytes.count, &count) : SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &count)
        return result == 1 ? .done(count) : try verdict(result)
    }

    /// Begins to read many records off the socket at once, in turns, and to write many at once; see `beginTurn` and
    /// `write(_:gatheringIn:)`. Only for a session that is established and does not `leave` any more.
    package mutating func carryBulk() throws(TLSError) {
        guard bulk == nil else { return }
        guard let bulk = ground ?? TLSBulkSocket(socket, under: ssl) else { throw .failed("out of memory") }
        self.bulk = bulk
    }

    /// After `carryBulk`: until `endTurn`, the socket is read once, by as many bytes as `room` holds. With these taken `read` is blocked,
    /// and `isTurnOver` says that the socket may have more.
    /// - Parameters:
    ///   - room: is used until `endTurn`.
    ///   - believesShortReads: whether a read that does not fill the room says that the socket is empty: not behind a hang-up.
    package func beginTurn(through room: UnsafeMutableRawBufferPointer, believesShortReads: Bool) {
        bulk?.inlet.beginTurn(through: room, believesShortReads: believesShortReads)
    }

    /// Gives the room back; encrypted bytes that have not been taken stay with the session.
    package func endTurn() { bulk?.inlet.endTurn() }

    /// Whether the last read was blocked for the turn's sake.
    package var isTurnOver: Bool { bulk?.inlet.isTurnOver ?? false }

    /// Encrypted bytes that the socket has not taken yet.
    package var pendingBytes: Int { bulk?.outlet.count ?? 0 }

    /// Sends encrypted bytes that wait; `done` when there are none any more.
    package func flush() throws(TLSError) -> TLSProgress {
        try bulk?.outlet.flush() ?? true ? .done(0) : .blocked(onWrite: true)
    }

    /// Takes a part or all of `bytes`, as `write` does. After `carryBulk`, the records go to the socket together; from the first time that
    /// there is more than one, the kernel makes them where it may.
    /// - Parameter room: what the records are gathered in, as many as it holds; it is used until the call returns.
    package func write(_ bytes: UnsafeRawBufferPointer, gatheringIn room: UnsafeMutableRawBufferPointer) throws(TLSError) -> TLSProgress {
        guard let bulk else { return try write(bytes) }
        guard try bulk.outlet.flush() else { return .blocked(onWrite: true) }
        if bytes.count > Self.recordBytes { bulk.sealInKernel() }
        if bulk.isKernelSealing {
            let sent = try bulk.sendPlain(bytes)
            return sent > 0 ? .done(sent) : .blocked(onWrite: true)
        }
        bulk.outlet.begin(in: room)
        var used = 0
        var last = TLSProgress.done(0)
        do throws(TLSError) {
            while used < bytes.count {
                let left = bulk.outlet.recordsLeft
                guard left > 0 else { break }
                bulk.keepBuffers(left > 1 && bytes.count - used > Self.recordBytes)
                last = try write(UnsafeRawBufferPointer(rebasing: bytes[used..<min(used + Self.recordBytes, bytes.count)]))
                guard case .done(let count) = last else { break }
                used += count
            }
        } catch {
            try bulk.outlet.end()
            throw error
        }
        try bulk.outlet.end()
        return used > 0 ? .done(used) : last
    }

    /// Says close_notify, once; what the peer still sends can be read. `closed` when both have said it.
    package func sayGoodbye() throws(TLSError) -> TLSProgress {
        if name?.ahead == .writing, case .blocked = try handshake() { return .blocked(onWrite: true) }  // the end is none before it is over
        if let bulk, bulk.isKernelSealing {
            guard try bulk.sayGoodbyeInKernel() else { return .blocked(onWrite: true) }
            return SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN != 0 ? .closed : .done(0)
        }
        let result = SSL_shutdown(ssl)
        switch result {
        case 0: return .done(0)
        case 1: return .closed
        default: return try verdict(result)
        }
    }

    /// Says close_notify and, once that is out, lets nothing more of this session reach the wire: not an answer to what is still read, a
    /// KeyUpdate for one. From then on bytes that are sent on the socket are the caller's own. `read` goes on until it says `closed`;
    /// only then are the bytes that come the caller's own, and none of them has been taken (RFC 8446 section 6.1). Wants a context without
    /// read-ahead. Call again after `blocked`, and not after anything else.
    package func leave() throws(TLSError) -> TLSProgress {
        let progress = try sayGoodbye()
        if case .blocked = progress { return progress }
        guard let nowhere = BIO_new(BIO_s_null()) else { throw .failed("out of memory") }
        SSL_set0_wbio(ssl, nowhere)
        return progress
    }

    /// Leaves as `leave` does, at once: `bytes`, close_notify and, behind it, `raw`, which are the first outside of TLS, go to the socket
    /// together. What it does not take waits; see `pendingBytes` and `flush`.
    /// - Parameter room: for all of it.
    package mutating func leave(
        saying bytes: UnsafeRawBufferPointer, then raw: [UInt8], gatheringIn room: UnsafeMutableRawBufferPointer
    ) throws(TLSError) {
        guard bulk == nil, bytes.count <= Self.recordBytes, raw.count <= room.count - 2 * (Self.recordBytes + Self.recordOverhead) else {
            throw .failed("too much to say at parting")
        }
        try carryBulk()
        guard let bulk, let nowhere = BIO_new(BIO_s_null()) else { throw .failed("out of memory") }
        bulk.outlet.begin(in: room)
        do throws(TLSError) {
            var isSaid = bytes.isEmpty
            if !isSaid { isSaid = try write(bytes) == .done(bytes.count) }
            if isSaid, case .blocked = try sayGoodbye() { isSaid = false }
            guard isSaid else { throw .failed("the other end has gone") }
        } catch {
            SSL_set0_wbio(ssl, nowhere)
            throw error
        }
        SSL_set0_wbio(ssl, nowhere)
        bulk.outlet.gather(raw)
        try bulk.outlet.end()
    }

    /// Everything the peer presented, leaf first, as DER; empty when it showed none. On a server also for a resumed session.
    package var peerChain: [[UInt8]] {
        guard let leaf = SSL_get0_peer_certificate(ssl) else { return [] }
        let first = TLSTicketChain.encoded(leaf)
        if notes == nil, isResumed {
            if let name { return [first] + (name.resumed?.chain.dropFirst() ?? []) }
            return [first] + (SSL_get_session(ssl).flatMap { TLSTicketChain.read($0) }?.others ?? [])
        }
        return [first] + TLSTicketChain.above(leaf, in: SSL_get_peer_cert_chain(ssl))
    }

    /// Whether the handshake resumed an earlier session.
    package var isResumed: Bool { SSL_session_reused(ssl) == 1 }

    /// `TLSv1.3`.
    package var version: String { String(cString: SSL_get_version(ssl)) }

    private func verdict(_ result: CInt) throws(TLSError) -> TLSProgress {
        let number = errno
        // An entry that another call left in the thread's queue would pass for a failure of this session. The handshake empties
        // the queue first; an established session that waits for its socket has not failed.
        if SSL_is_init_finished(ssl) == 1, ERR_peek_error() != 0 {
            switch SSL_want(ssl) {
            case SSL_READING where BIO_test_flags(SSL_get_rbio(ssl), BIO_FLAGS_SHOULD_RETRY) != 0:
                ERR_clear_error()
                return .blocked(onWrite: false)
            case SSL_WRITING where BIO_test_flags(SSL_get_wbio(ssl), BIO_FLAGS_SHOULD_RETRY) != 0:
                ERR_clear_error()
                return .blocked(onWrite: true)
            default: break
            }
        }
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .blocked(onWrite: false)
        case SSL_ERROR_WANT_WRITE: return .blocked(onWrite: true)
        case SSL_ERROR_ZERO_RETURN: return .closed
        case SSL_ERROR_SYSCALL:
            // OpenSSL sets errno to 0 before each system call of its own.
            ERR_clear_error()
            throw number == 0 ? .truncated : .system(SystemError("read", number))
        default:
            if cssl_is_unexpected_eof(ERR_peek_error()) == 1 {
                ERR_clear_error()
                throw .truncated
            }
            throw .take()
        }
    }
}
