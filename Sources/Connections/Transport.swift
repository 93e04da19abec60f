import Glibc
import LinuxIO
import TLS

/// What one non-blocking transfer came to.
enum Transfer {
    case bytes(Int)
    case blocked(onWrite: Bool)
    case end
}

/// A socket and, over TLS, its session. Unique by type, so that a hand-over to another reactor is a move.
package struct Transport: ~Copyable, Sendable {
    let socket: OwnedDescriptor
    private var session: TLSSession?
    /// What the session is made of once the client has said something.
    private var awaited: (context: TLSContext, kernelMaySeal: Bool)?
    /// Whether many records are read and written at once.
    private(set) var carriesBulk = false
    private(set) var isEstablished: Bool
    package let peer: SocketAddress?

    /// A plain connection.
    package init(_ socket: consuming OwnedDescriptor) {
        peer = SocketAddress.peer(of: socket.raw)
        self.socket = socket
        session = nil
        isEstablished = true
    }

    /// The server's end of a TLS connection.
    package init(accepting socket: consuming OwnedDescriptor, _ context: TLSContext) throws(TLSError) {
        peer = SocketAddress.peer(of: socket.raw)
        session = try TLSSession(acceptingOn: socket.raw, context)
        self.socket = socket
        isEstablished = false
    }

    /// The server's end of a TLS connection, for which nothing is made before `begin`.
    /// - Parameters:
    ///   - peer: as the kernel told it.
    ///   - kernelMaySeal: see `TLSSession`.
    package init(awaiting socket: consuming OwnedDescriptor, from peer: SocketAddress?, _ context: TLSContext, kernelMaySeal: Bool) {
        self.peer = peer
        self.socket = socket
        session = nil
        awaited = (context, kernelMaySeal)
        isEstablished = false
    }

    /// Whether `begin` is still to come.
    var isAwaiting: Bool { awaited != nil }

    /// Whether the client has said something.
    func hasSpoken() throws(TransportError) -> Bool {
        var byte: UInt8 = 0
        while true {
            let count = recv(socket.raw, &byte, 1, CInt(MSG_PEEK))
            if count > 0 { return true }
            if count == 0 { throw .tls(.cutInHandshake) }
            if errno == EAGAIN { return false }
            guard errno == EINTR else { throw .system(SystemError("recv")) }
        }
    }

    /// Makes the session.
    mutating func begin() throws(TransportError) {
        guard let (context, kernelMaySeal) = awaited.take() else { return }
        do throws(TLSError) { session = try TLSSession(acceptingOn: socket.raw, context, kernelMaySeal: kernelMaySeal) } catch {
            throw .tls(error)
        }
    }

    /// The client's end of a TLS connection to `host`, whose certificate must name it.
    package init(
        connecting socket: consuming OwnedDescriptor, _ context: TLSContext, host: String, cache: TLSSessionCache? = nil
    ) throws(TLSError) {
        peer = SocketAddress.peer(of: socket.raw)
        session = try TLSSession(
            connectingOn: socket.raw, context, host: host, cache: cache, kernelMaySeal: KernelSealing.isOffered)
        self.socket = socket
        isEstablished = false
    }

    /// The device's end of an end-to-end session over a socket that carries nothing else.
    /// - Parameters:
    ///   - protocolName: the one name by which the client may come (ALPN); 1 to 255 bytes.
    ///   - admits: see `TLSSession`; the owner judges again when the handshake is over.
    package init(
        accepting socket: consuming OwnedDescriptor, endToEnd context: TLSContext, protocolName: String,
        admits: (@Sendable ([[UInt8]]) -> Bool)? = nil
    ) throws(TLSError) {
        peer = SocketAddress.peer(of: socket.raw)
        session = try TLSSession(acceptingOn: socket.raw, endToEnd: context, protocolName: protocolName, admits: admits)
        self.socket = socket
        isEstablished = false
    }

    /// The service's end of an end-to-end session over a socket that carries nothing else.
    /// - Parameters:
    ///   - name: names the other end in the cache of tickets.
    ///   - protocolName: the one name to offer (ALPN); 1 to 255 bytes.
    package init(
        connecting socket: consuming OwnedDescriptor, endToEnd context: TLSContext, peer name: String, protocolName: String,
        cache: TLSSessionCache?
    ) throws(TLSError) {
        try self.init(
            connecting: socket, TLSSession(connectingEndToEnd: context, peer: name, protocolName: protocolName, cache: cache),
            hasSpoken: false)
    }

    /// The service's end of an end-to-end session that was begun without a socket.
    /// - Parameter hasSpoken: whether its first flight has gone out on this socket; otherwise it is sent now.
    package init(connecting socket: consuming OwnedDescriptor, _ begun: consuming TLSSession, hasSpoken: Bool) throws(TLSError) {
        var begun = begun
        if !hasSpoken {
            let flight = begun.firstFlight
            // A fresh socket has room for it.
            guard send(socket.raw, flight, flight.count, CInt(MSG_NOSIGNAL)) == flight.count else { throw .system(SystemError("send")) }
        }
        try begun.connect(to: socket.raw)
        peer = SocketAddress.peer(of: socket.raw)
        session = consume begun
        self.socket = socket
        isEstablished = false
    }

    package var isEncrypted: Bool { session != nil || awaited != nil }

    /// Says close_notify and nothing after it; `.blocked` while the socket has no room for it. See `TLSSession.leave`.
    func leave() throws(TransportError) -> Transfer {
        try withSession { session throws(TLSError) in
            let progress = try session.leave()
            return progress == .closed ? .done(0) : progress
        }
    }

    /// Leaves as `leave` does, with everything in one send; see `TLSSession.leave(saying:then:gatheringIn:)`.
    mutating func leave(
        saying bytes: UnsafeRawBufferPointer, then raw: [UInt8], gatheringIn room: UnsafeMutableRawBufferPointer
    ) throws(TransportError) {
        do throws(TLSError) {
            try session?.leave(saying: bytes, then: raw, gatheringIn: room)
        } catch {
            if case .system(let broken) = error { throw .system(broken) }
            throw .tls(error)
        }
    }

    /// Gives up the TLS session, if there is one, and keeps the socket.
    consuming func bared() -> OwnedDescriptor { socket }

    /// The certificates that the peer presented, leaf first, DER.
    package var peerChain: [[UInt8]] {
        switch session {
        case .some(let session): session.peerChain
        case .none: []
        }
    }

    /// Whether the TLS session resumed an earlier one; false for a plain connection.
    package var isResumed: Bool {
        switch session {
        case .some(let session): session.isResumed
        case .none: false
        }
    }

    /// `TLSv1.3`; nil for a plain connection.
    package var version: String? {
        switch session {
        case .some(let session): session.version
        case .none: nil
        }
    }

    /// Goes on with the handshake; `.bytes` once it is over.
    mutating func establish() throws(TransportError) -> Transfer {
        if isEstablished { return .bytes(0) }
        let progress = try withSession { session throws(TLSError) in try session.handshake() }
        if case .bytes = progress { isEstablished = true }
        return progress
    }

    private func withSession(_ body: (borrowing TLSSession) throws(TLSError) -> TLSProgress) throws(TransportError) -> Transfer {
        do throws(TLSError) {
            switch session {
            case .none: return .end
            case .some(let session):
                switch try body(session) {
                case .done(let count): return .bytes(count)
                case .blocked(let onWrite): return .blocked(onWrite: onWrite)
                case .closed: return .end
                }
            }
        } catch {
            if case .system(let broken) = error { throw .system(broken) }
            throw .tls(error)
        }
    }

    func read(into room: UnsafeMutableRawBufferPointer) throws(TransportError) -> Transfer {
        if isEncrypted { return try withSession { session throws(TLSError) in try session.read(into: room) } }
        while true {
            let count = recv(socket.raw, room.baseAddress, room.count, 0)
            if count > 0 { return .bytes(count) }
            if count == 0 { return .end }
            if errno == EINTR { continue }
            if errno == EAGAIN { return .blocked(onWrite: false) }
            throw .system(SystemError("recv"))
        }
    }

    /// Drops what lies behind the peer's close_notify: it would make the kernel answer our close with RST, and our last words be lost.
    func dropRaw(through room: UnsafeMutableRawBufferPointer) {
        for _ in 0..<8 where recv(socket.raw, room.baseAddress, room.count, 0) <= 0 { return }
    }

    /// Makes an established TLS session read and write many records at once: for connections that carry streams. Never for one that may
    /// still leave TLS.
    mutating func carryBulk() throws(TransportError) {
        guard isEncrypted, isEstablished, !carriesBulk else { return }
        do throws(TLSError) { try session?.carryBulk() } catch { throw .tls(error) }
        carriesBulk = true
    }

    /// Begins a turn of a session that carries bulk, in which its socket is read once; see `TLSSession.beginTurn`.
    func beginTurn(through room: UnsafeMutableRawBufferPointer, believesShortReads: Bool) {
        switch session {
        case .some(let session): session.beginTurn(through: room, believesShortReads: believesShortReads)
        case .none: break
        }
    }

    func endTurn() {
        switch session {
        case .some(let session): session.endTurn()
        case .none: break
        }
    }

    /// Whether the last read was blocked for the turn's sake, and the socket may have more.
    var isTurnOver: Bool {
        switch session {
        case .some(let session): session.isTurnOver
        case .none: false
        }
    }

    /// Encrypted bytes that the socket has not taken yet.
    var pendingBytes: Int {
        switch session {
        case .some(let session): session.pendingBytes
        case .none: 0
        }
    }

    /// Sends encrypted bytes that wait; `.bytes` when none do.
    func flush() throws(TransportError) -> Transfer {
        isEncrypted ? try withSession { session throws(TLSError) in try session.flush() } : .bytes(0)
    }

    /// - Parameter room: where the records of a session that carries bulk are gathered.
    func write(_ bytes: UnsafeRawBufferPointer, gatheringIn room: UnsafeMutableRawBufferPointer) throws(TransportError) -> Transfer {
        if isEncrypted { return try withSession { session throws(TLSError) in try session.write(bytes, gatheringIn: room) } }
        while true {
            let count = send(socket.raw, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
            if count >= 0 { return .bytes(count) }
            if errno == EINTR { continue }
            if errno == EAGAIN { return .blocked(onWrite: true) }
            throw .system(SystemError("send"))
        }
    }

    /// Ends our direction and leaves the peer's open: close_notify over TLS, then FIN. False while there is no room for the
    /// close_notify in the socket: call again once it is writable.
    func finishWriting(withFIN: Bool = true) -> Bool {
        if isEncrypted, isEstablished,
            case .blocked(onWrite: true)? = try? withSession({ session throws(TLSError) in try session.sayGoodbye() })
        {
            return false
        }
        if withFIN { shutdown(socket.raw, CInt(SHUT_WR)) }
        return true
    }

    /// The same socket under another descriptor, which keeps the connection when this one is closed; nil when there are no more.
    package func duplicate() -> OwnedDescriptor? {
        let copy = fcntl(socket.raw, F_DUPFD_CLOEXEC, 0)
        return copy < 0 ? nil : OwnedDescriptor(adopting: copy)
    }

    /// The next close sends RST instead of FIN.
    func resetOnClose() { socket.resetOnClose() }

    /// Throws what broke the socket, if anything did.
    func checkError() throws(TransportError) {
        if let error = socket.pendingError { throw .system(error) }
    }

    /// Whether bytes we sent went unanswered for `milliseconds`; see `OwnedDescriptor.isPathDead`.
    package func isPathDead(silentMilliseconds milliseconds: UInt32 = OwnedDescriptor.silentMilliseconds) -> Bool {
        socket.isPathDead(silentMilliseconds: milliseconds)
    }

    /// Asks the kernel to probe an idle peer; see `OwnedDescriptor.keepAlive`.
    package func keepAlive(idleSeconds: Int32 = 8, intervalSeconds: Int32 = 3) {
        socket.keepAlive(idleSeconds: idleSeconds, intervalSeconds: intervalSeconds)
    }
}

/// Why a transport failed.
public enum TransportError: Error, Equatable, CustomStringConvertible {
    /// The TLS session failed.
    case tls(TLSError)
    /// A system call failed.
    case system(SystemError)

    /// The peer sent RST.
    package var isReset: Bool {
        if case .system(let error) = self { error.number == ECONNRESET || error.number == EPIPE } else { false }
    }

    /// One line without call names.
    public var description: String {
        switch self {
        case .tls(let error): error.description
        case .system(let error): error.reason
        }
    }
}
