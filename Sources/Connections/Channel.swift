import Bytes
import LinuxIO
import TLS

/// The moving parts of a connection: transport, what has been read and not used, what waits to be written.
///
/// `~Copyable` and passed `inout`, so that the byte path has no reference counts and no dynamic exclusivity checks, and
/// Sendable, so that all of it can move to another reactor at once.
public struct Channel: ~Copyable, Sendable {
    /// Makes a moved channel's new owner, on the reactor it has come to.
    package typealias Rebuild = @Sendable (consuming Channel, Reactor) -> Connection

    /// What an owner asked for.
    enum Wish {
        case none
        /// Close once everything has gone out.
        case finish
        /// The same, but read and drop what still comes for a while, so that a RST cannot destroy our last words.
        case linger
        /// Close at once; with RST on a plain connection.
        case reset
        case move(Mailbox, Rebuild)
        /// Go to another owner on the same reactor.
        case handOn
        /// Leave TLS and give the socket on.
        case bare
    }

    /// Bytes waiting at which a relay stops reading the other side, and at which it goes on.
    package static let highWater = 256 << 10, lowWater = 64 << 10
    /// The largest memory that stays with the reactor.
    static let warmLimit = 1 << 20
    /// Bytes of input kept for a parser that wants more; the parser's own limits should be lower.
    private static let inputLimit = 1 << 20

    package private(set) var transport: Transport
    /// Append answers here.
    package var output = ByteQueue()
    private var input = ByteQueue()
    private(set) var wish = Wish.none
    private var readable = true
    /// Whether the socket has been hung up on, be it that there is something to read yet.
    package private(set) var hungUp = false
    private var stalled = false  // TLS must write before it can read
    private var blockedWriting = false
    private var brokenWriting: TransportError?
    private var finishesWriting = false, hasFinishedWriting = false, hasLeft = false
    private var parting: [UInt8]?  // for behind our close_notify
    private var mustParse = false, wasHigh = false
    package private(set) var isPaused = false
    /// Whether reading stops while much output waits, as it should where input begets output. A relay says no: its two
    /// directions are independent, and two peers that wait for one another's reading would wait for ever.
    package var readsWhileOutputWaits = false
    /// Whether the end of our direction is a close_notify alone, and FIN comes when the connection does not live on anyway: a proxy on the
    /// way may take the end of one direction for the end of both.
    package var keepsFIN = false
    /// Bytes that one read may bring; with 0 nothing is read. For owners that measure out what comes.
    package var readLimit = Int.max
    /// Whether a read takes a quarter of a megabyte, for those that pass everything on at once.
    package var readsMuch = false
    /// Whether the peer has ended its direction.
    package private(set) var hasInputEnded = false

    /// Lives as long as the connection and moves with it: a place in a count, for one.
    package var companion: (any AnyObject & Sendable)?

    /// What lets the handshake begin, and the place behind it until it is over.
    private(set) var gate: HandshakeGate?
    private var place: HandshakePlace?

    package init(_ transport: consuming Transport, companion: (any AnyObject & Sendable)? = nil, gate: HandshakeGate? = nil) {
        self.transport = transport
        self.companion = companion
        self.gate = gate
    }

    /// Reads and writes many TLS records at once from now on; for an established connection that carries a stream and will not leave TLS.
    package mutating func carryBulk() throws(TransportError) { try transport.carryBulk() }

    /// Bytes that wait for the socket, encrypted or not yet.
    var queuedBytes: Int { output.count + transport.pendingBytes }

    package var peerChain: [[UInt8]] { transport.peerChain }
    package var peer: SocketAddress? { transport.peer }

    // What an owner may ask for

    /// Closes once everything has gone out.
    package mutating func finish() { if case .none = wish { wish = .finish } }

    /// Closes once everything has gone out and the peer has closed too, or two seconds later.
    package mutating func finishLingering() { if case .none = wish { wish = .linger } }

    /// Closes at once; a plain connection's peer sees a reset.
    package mutating func reset() { wish = .reset }

    /// Ends our direction once everything has gone out; reading goes on.
    package mutating func finishWriting() { finishesWriting = true }

    /// Breaks the connection off, with RST on the socket, without an owner.
    package consuming func discard() { transport.resetOnClose() }

    /// Stops reading until `resume`; the peer is slowed down by its window.
    package mutating func pause() { isPaused = true }

    /// Reads again; what was left unused is offered again.
    package mutating func resume() {
        isPaused = false
        mustParse = true
    }

    /// Carries the connection to another reactor, or to another owner on the same one; TLS session and bytes in flight included.
    package mutating func move(to mailbox: Mailbox, rebuild: @escaping Rebuild) {
        wish = .move(mailbox, rebuild)
    }

    /// Takes the channel from its connection, whose `handedOn` gives it to the next owner on this reactor: an upgrade is over, say.
    /// What was read and not used is offered to that owner; `closed` is not called.
    package mutating func handOn() { wish = .handOn }

    /// Leaves TLS once everything has gone out: says close_notify, waits for the peer's, and gives the socket to the connection's `bared`.
    /// The peer may say nothing else from now on; bytes that were read and not used fail the connection, as do any before its close_notify.
    package mutating func bare() { wish = .bare }

    /// Ends TLS in our direction right behind what waits: that, close_notify and `bytes`, which are the first outside of TLS, go out in one
    /// send. What the peer says is read as ever, and `bare` then goes on from its close_notify; nothing more can be sent until then.
    package mutating func leave(saying bytes: [UInt8]) { parting = bytes }

    // The loop's part

    /// Does what `leave(saying:)` asked for.
    private mutating func part(_ reactor: Reactor) throws(TransportError) {
        guard let raw = exchange(&parting, with: nil) else { return }
        guard transport.isEncrypted else { return output.append(raw.span.bytes) }
        let last = exchange(&output, with: ByteQueue()).toArray()
        try last.span.bytes.withUnsafeBytes { bytes throws(TransportError) in
            try transport.leave(saying: bytes, then: raw, gatheringIn: reactor.scratch)
        }
        hasLeft = true
        if transport.pendingBytes > 0 { blockedWriting = true }
    }

    /// Goes on leaving TLS; true once both sides have said close_notify. Nothing behind the peer's has been read then.
    mutating func leave(_ reactor: Reactor) throws(TransportError) -> Bool {
        guard output.isEmpty, transport.pendingBytes == 0 else { return false }
        guard input.isEmpty else { throw Self.unexpected }
        guard transport.isEncrypted else { return true }
        if !hasLeft {
            if case .blocked(let onWrite) = try transport.leave() {
                blockedWriting = onWrite
                return false
            }
            hasLeft = true
        }
        if hasInputEnded { return true }
        switch try transport.read(into: reactor.scratch) {
        case .bytes: throw Self.unexpected
        case .blocked: return false
        case .end: return true
        }
    }

    private static let unexpected = TransportError.tls(.failed("peer sent data where it had to leave TLS"))

    /// What is left once TLS has been left.
    consuming func bared() -> BareSocket {
        let companion = companion, peer = peer
        return BareSocket(transport.bared(), companion: companion, peer: peer)
    }

    mutating func prepareForMove() {
        wish = .none
        mustParse = true
        readable = true
        stalled = false
        blockedWriting = false
    }

    mutating func note(_ readiness: Readiness) {
        if !readiness.isEmpty { stalled = false }
        if !readiness.isDisjoint(with: [.writable, .hangup]) { blockedWriting = false }
        if !readiness.isDisjoint(with: [.readable, .hangup]) { readable = true }
        if !readiness.isDisjoint(with: .hangup) { hungUp = true }
    }

    /// Whether another round would find something to do.
    var hasMore: Bool {
        guard case .none = wish else { return false }
        return !isPaused && (readsWhileOutputWaits || queuedBytes < Self.highWater)
            && (mustParse || (readable && readLimit > 0 && !stalled && !hasInputEnded))
    }

    /// Once after the output fell from above the high mark to below the low one.
    mutating func takeDrained() -> Bool {
        if queuedBytes >= Self.highWater { wasHigh = true }
        return queuedBytes < Self.lowWater && exchange(&wasHigh, with: false)
    }

    /// Whether the handshake waits for the client's first word, or for its place.
    var isAwaiting: Bool { transport.isAwaiting }

    /// Begins the handshake of a client that has spoken.
    ///
    /// - Parameter place: has to be given where there is a gate.
    mutating func begin(_ place: HandshakePlace?) throws(TransportError) {
        self.place = place
        gate = nil
        try transport.begin()
    }

    /// Goes on with the handshake; true once it is over.
    mutating func establish() throws(TransportError) -> Bool {
        switch try transport.establish() {
        case .bytes:
            place = nil
            return true
        case .blocked(let onWrite):
            if onWrite { stalled = true } else { readable = false }
            return false
        case .end: throw .tls(.cutInHandshake)
        }
    }

    /// Writes what waits, except for the last `keeping` bytes.
    mutating func flush(_ reactor: Reactor, keeping: Int = 0) throws(TransportError) {
        if let brokenWriting { throw brokenWriting }
        if queuedBytes >= Self.highWater { wasHigh = true }
        if parting != nil { try part(reactor) }
        if transport.pendingBytes > 0, !blockedWriting, case .blocked = try transport.flush() { blockedWriting = true }
        while output.count > keeping, !blockedWriting {
            let room = transport.carriesBulk ? reactor.gathering : reactor.scratch
            switch try output.withBytes({ bytes throws(TransportError) in
                try bytes.withUnsafeBytes { raw throws(TransportError) in
                    try transport.write(UnsafeRawBufferPointer(rebasing: raw.dropLast(keeping)), gatheringIn: room)
                }
            }) {
            case .bytes(let count):
                output.consume(count)
                if transport.pendingBytes > 0 { blockedWriting = true }
            case .blocked: blockedWriting = true
            case .end: throw .tls(.truncated)
            }
        }
        if output.isEmpty, finishesWriting, !blockedWriting { _ = endWriting() }
    }

    /// Writes what waits while another connection has its turn, whose bytes it may be. What broke the transport comes to light in ours.
    mutating func flushEarly(_ reactor: Reactor) {
        do throws(TransportError) {
            // A record that is not full costs as much as one that is; what is missing may come in a moment.
            try flush(reactor, keeping: transport.carriesBulk ? output.count % TLSSession.recordBytes : 0)
        } catch {
            brokenWriting = error
        }
    }

    /// Writes all that waits while another connection has its turn; whether nothing is left to do in ours before the socket has room.
    mutating func flushAll(_ reactor: Reactor) -> Bool {
        do throws(TransportError) { try flush(reactor) } catch { brokenWriting = error }
        guard case .none = wish else { return false }
        return brokenWriting == nil && !wasHigh && !finishesWriting && (output.isEmpty || blockedWriting)
    }

    /// Writes what the socket takes now, from where it is, and keeps the rest; whether there was none. What broke the transport comes to
    /// light in our own turn.
    mutating func sendNow(_ bytes: RawSpan, _ reactor: Reactor) -> Bool {
        var rest = bytes
        if output.isEmpty, transport.pendingBytes == 0, brokenWriting == nil {
            let room = transport.carriesBulk ? reactor.gathering : reactor.scratch
            do throws(TransportError) {
                while rest.byteCount > 0, !blockedWriting {
                    let written = try rest.withUnsafeBytes { raw throws(TransportError) in try transport.write(raw, gatheringIn: room) }
                    if case .bytes(let count) = written { rest = rest.extracting(droppingFirst: count) } else { blockedWriting = true }
                    if transport.pendingBytes > 0 { blockedWriting = true }
                }
            } catch {
                brokenWriting = error
            }
        }
        output.append(rest)
        return rest.byteCount == 0 && transport.pendingBytes == 0 && brokenWriting == nil
    }

    /// Says close_notify and ends our direction, once; false while the socket has no room for it.
    mutating func endWriting() -> Bool {
        if !hasFinishedWriting { hasFinishedWriting = transport.finishWriting(withFIN: !keepsFIN) }
        if !hasFinishedWriting { blockedWriting = true }
        return hasFinishedWriting
    }

    /// Sends what `keepsFIN` kept.
    func shutDown() { if keepsFIN { _ = transport.finishWriting(withFIN: true) } }

    mutating func fill(_ owner: Connection, _ reactor: Reactor) throws {
        guard case .none = wish else { return }
        if mustParse, !isPaused {
            mustParse = false
            if !input.isEmpty { try parse(owner, reactor) }
            if hasInputEnded, !isPaused, !mustParse, !owner.hasEnded { try owner.inputEnded(&self, on: reactor) }
        }
        if transport.carriesBulk { beginTurn(reactor) }
        defer { if transport.carriesBulk { transport.endTurn() } }
        var budget = readsMuch ? 2 : 8  // then the others have a turn
        while budget > 0, !mustParse, hasMore, !owner.isPausing, !transport.isTurnOver, !owner.hasEnded {
            budget -= 1
            let isDirect = input.isEmpty, whole = isDirect ? (readsMuch ? reactor.bulk : reactor.scratch) : input.reserve(16384)
            let room = whole.count > readLimit ? UnsafeMutableRawBufferPointer(rebasing: whole[..<readLimit]) : whole
            var failure: TransportError?
            switch try read(into: room, &failure) {
            case .bytes(let count):
                if !transport.isEncrypted, count < room.count, !hungUp { readable = false }
                if isDirect {
                    let fresh = UnsafeRawBufferPointer(rebasing: room[..<count]).bytes
                    let used = try owner.received(fresh, &self, on: reactor)
                    if used < count { input.append(fresh.extracting(droppingFirst: used)) }
                } else {
                    input.commit(count)
                    try parse(owner, reactor)
                }
                guard input.count <= Self.inputLimit else { throw TransportError.tls(.failed("peer sent more than it may")) }
                if let failure { throw failure }  // behind what came before it
            case .blocked(let onWrite): blockReading(onWrite: onWrite)
            case .end:
                readable = false
                hasInputEnded = true
                try owner.inputEnded(&self, on: reactor)
            }
        }
    }

    /// A session that carries bulk reads as much as may come, but whole records, off its socket.
    private func beginTurn(_ reactor: Reactor) {
        let room = reactor.incoming, most = min(room.count, max(readLimit, TLSSession.recordBytes))
        transport.beginTurn(through: UnsafeMutableRawBufferPointer(rebasing: room[..<most]), believesShortReads: !hungUp)
    }

    /// Nothing is read before the socket says so, unless this turn alone is over.
    private mutating func blockReading(onWrite: Bool) {
        if onWrite { stalled = true } else if !transport.isTurnOver { readable = false }
    }

    /// One read; from a session that carries bulk as many records as there are and have room. `failure` is what ended that.
    private mutating func read(
        into room: UnsafeMutableRawBufferPointer, _ failure: inout TransportError?
    ) throws(TransportError) -> Transfer {
        let first = try transport.read(into: room)
        guard transport.carriesBulk, case .bytes(var count) = first else { return first }
        while room.count - count >= TLSSession.recordBytes {
            do throws(TransportError) {
                switch try transport.read(into: UnsafeMutableRawBufferPointer(rebasing: room[count...])) {
                case .bytes(let more): count += more
                case .blocked(let onWrite):
                    blockReading(onWrite: onWrite)
                    return .bytes(count)
                case .end: return .bytes(count)  // and once more, next time
                }
            } catch {
                failure = error
                return .bytes(count)
            }
        }
        return .bytes(count)
    }

    private mutating func parse(_ owner: Connection, _ reactor: Reactor) throws {
        var held = exchange(&input, with: ByteQueue())  // the callback gets the rest of self `inout`
        let used = try held.withBytes { try owner.received($0, &self, on: reactor) }
        held.consume(used)
        input = held
    }

    /// While lingering: drops what comes, a part of it at a time; true once the peer has ended too.
    mutating func dropInput(_ reactor: Reactor) throws(TransportError) -> Bool {
        for _ in 0..<8 {
            switch try transport.read(into: reactor.scratch) {
            case .bytes: continue
            case .blocked:
                readable = false
                return hasInputEnded
            case .end:
                hasInputEnded = true
                transport.dropRaw(through: reactor.scratch)
                return true
            }
        }
        return false
    }

    /// Whether a read might find something.
    var mayHaveInput: Bool { readable && !hasInputEnded }

    /// Gives up memory that nothing waits in; the reactor keeps what has carried bulk, for the next that does.
    mutating func releaseBuffers(_ reactor: Reactor) {
        if transport.carriesBulk, output.isEmpty, output.capacity > reactor.warm.capacity, output.capacity <= Self.warmLimit {
            swap(&output, &reactor.warm)
        }
        output.releaseIfEmpty()
        input.releaseIfEmpty()
    }
}
