import Bytes
import LinuxIO
import Synchronization

/// Why a connection ended.
public enum CloseReason: Equatable, Sendable {
    /// We finished, and everything went out.
    case finished
    /// We broke it off: a deadline, a drain that took too long, an order.
    case aborted
    /// The transport failed.
    case failed(TransportError)
    /// The owner's `opened`, `received` or `inputEnded` threw; the text is for the log.
    case refused(String)
}

/// A byte stream under edge-triggered readiness. Subclasses parse; this class and `Channel` move bytes.
///
/// Open, and so public, because roles subclass it.
open class Connection: Source {
    private enum Order {
        case finish, linger, reset, finishWriting, pause, resume, handOn, limitReading(Int), leave([UInt8]), move(Mailbox, Channel.Rebuild)
    }

    private let descriptor: CInt
    private var channel: Channel?  // nil while it is being worked on, and at the end
    private var late = ByteQueue()  // sent by others meanwhile
    private var lateOrders: [Order] = []
    /// Whether the owner wants nothing more, which the channel hears at the end of its turn: what comes next may be long.
    private(set) final var isPausing = false
    private var isOpened = false, isLingering = false
    /// Waits for a place behind the gate.
    private var isAtGate = false
    private var stalledAt: Int?  // bytes that waited, at the last look, for a peer that we are done with
    package private(set) final var hasEnded = false
    /// Whether a failure of the socket ends the connection at once even while it is paused, and with it what was not read yet.
    /// Otherwise it comes to light in its turn, behind the input.
    package final var failsWhilePaused = false
    /// Whether a connection that does not end in order sends RST, and over TLS no close_notify: what was sent is then no whole.
    package final var resetsOnFailure = false
    /// How long the handshake may take; nil: for ever. Then `expired` is called, and `opened` sets deadlines of its own.
    package final var openingMilliseconds: Int?
    /// How long a connection that is to finish waits for a peer that takes nothing; nil: for ever. Then it is broken off.
    package final var stallMilliseconds: Int?
    /// The peer's address, for logs and limits.
    package final let peer: SocketAddress?

    /// Takes a channel whose handshake may still be to come. Public, because with package access the compiler gives subclasses an
    /// inherited initializer that calls itself.
    public init(_ channel: consuming Channel) {
        descriptor = channel.transport.socket.raw
        peer = channel.peer
        self.channel = consume channel
        super.init()
    }

    // What subclasses override

    /// The connection is usable: at once for plain ones, after the handshake for TLS. Called once on each reactor it lives on.
    open func opened(_ channel: inout Channel, on reactor: Reactor) throws {}

    /// Parses what is there, appends answers to `channel.output`, returns how many bytes were used. The rest is offered
    /// again with more behind it. Throwing closes the connection with `.refused`.
    open func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int { bytes.byteCount }

    /// What one turn has brought has been handed over.
    open func turnEnded(on reactor: Reactor) {}

    /// The peer has ended its direction. Finishes ours, unless overridden. Called again after a `resume`.
    open func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws { channel.finish() }

    /// The peer has hung up after it had ended its direction: where only TLS was over, the rest is now as well. Does nothing by default.
    open func hungUp(_ channel: inout Channel, on reactor: Reactor) {}

    /// The output fell below the low mark after having been above the high one.
    open func drained(on reactor: Reactor) {}

    /// The deadline that the owner set with `reactor.setDeadline(of:inMilliseconds:)` has come. Breaks off, unless overridden.
    open func expired(on reactor: Reactor) { abort(on: reactor) }

    /// The end, exactly once; not called when the connection moves to another reactor.
    open func closed(_ reason: CloseReason, on reactor: Reactor) {}

    /// Gets the channel after `Channel.handOn`; closes it, unless overridden.
    open func handedOn(_ channel: consuming Channel, on reactor: Reactor) {}

    /// Gets the socket after `Channel.bare`, once TLS is over in both directions; closes it, unless overridden. `closed` is not called.
    open func bared(_ socket: consuming BareSocket, on reactor: Reactor) {}

    // What owners call, from outside the callbacks that get the channel

    /// Begins to watch the socket; on failure `closed` is called.
    package final func start(on reactor: Reactor) {
        do throws(SystemError) {
            try reactor.add(self, descriptor: descriptor, [.readable, .writable, .hangup, .edgeTriggered])
        } catch {
            hasEnded = true
            channel = nil
            return closed(.failed(.system(error)), on: reactor)
        }
        if let openingMilliseconds { reactor.setDeadline(of: self, inMilliseconds: openingMilliseconds) }
        reactor.revisit(self)
        if reactor.isDraining { drain(on: reactor) }
    }

    package final func send(_ bytes: RawSpan, on reactor: Reactor) {
        send(on: reactor) { $0.append(bytes) }
    }

    /// Fewer bytes than this wait for the connection's turn.
    private static let bulkBytes = 16 << 10

    /// Writes what waits now, if it is much, while it is in the processor's cache; otherwise it waits for the connection's turn.
    package final func push(on reactor: Reactor) {
        guard !hasEnded, isOpened, queuedBytes >= Self.bulkBytes, var held = channel.take() else { return }
        held.flushEarly(reactor)
        channel = consume held
        reactor.revisit(self)
    }

    /// Lets `body` append to the output, in memory that is warm. Whoever calls this calls `pushAll` before the reactor goes on.
    package final func gather(on reactor: Reactor, _ body: (inout ByteQueue) -> Void) {
        guard !hasEnded else { return }
        guard isOpened, var held = channel.take() else { return send(on: reactor, body) }
        if held.output.capacity == 0 { swap(&held.output, &reactor.warm) }
        body(&held.output)
        channel = consume held
    }

    /// Writes all that waits now, and has a turn of its own only where that is not enough.
    package final func pushAll(on reactor: Reactor) {
        guard !hasEnded, isOpened, queuedBytes > 0, var held = channel.take() else { return }
        let isDone = held.flushAll(reactor)
        held.releaseBuffers(reactor)
        channel = consume held
        if !isDone { reactor.revisit(self) }
    }

    /// Sends at once what the socket takes of a larger piece, without its being copied; the rest waits behind what waits already.
    package final func sendNow(_ bytes: RawSpan, on reactor: Reactor) {
        guard !hasEnded else { return }
        guard isOpened, var held = channel.take() else { return send(bytes, on: reactor) }
        let isAllSent = held.sendNow(bytes, reactor)
        channel = consume held
        if !isAllSent { reactor.revisit(self) }
    }

    /// Sends what `body` writes, as the other `sendNow` does, from a buffer that is warm.
    package final func sendNow(on reactor: Reactor, _ body: (inout ByteQueue) -> Void) {
        guard !hasEnded else { return }
        var room = exchange(&reactor.warm, with: ByteQueue())
        body(&room)
        room.withBytes { sendNow($0, on: reactor) }
        room.removeAll()
        if room.capacity <= Channel.warmLimit { reactor.warm = room }
    }

    /// Lets `body` append to the output.
    package final func send(on reactor: Reactor, _ body: (inout ByteQueue) -> Void) {
        guard !hasEnded else { return }
        if var held = channel.take() {
            body(&held.output)
            channel = consume held
        } else {
            body(&late)
        }
        reactor.revisit(self)
    }

    /// Bytes that wait to be written.
    package final var queuedBytes: Int {
        switch channel {
        case .some(let channel): channel.queuedBytes
        case .none: late.count
        }
    }

    /// Closes once everything has gone out.
    package final func finish(on reactor: Reactor) { order(.finish, on: reactor) }
    /// Closes once everything has gone out and the peer has closed too, or two seconds later.
    package final func finishLingering(on reactor: Reactor) { order(.linger, on: reactor) }
    /// Closes at once; a plain connection's peer sees a reset.
    package final func reset(on reactor: Reactor) { order(.reset, on: reactor) }
    /// Ends our direction once everything has gone out.
    package final func finishWriting(on reactor: Reactor) { order(.finishWriting, on: reactor) }
    /// Stops reading, as `Channel.pause` does.
    package final func pause(on reactor: Reactor) { order(.pause, on: reactor) }
    /// Reads again after `pause`.
    package final func resume(on reactor: Reactor) { order(.resume, on: reactor) }
    /// Sets `Channel.readLimit`.
    package final func limitReading(to bytes: Int, on reactor: Reactor) { order(.limitReading(bytes), on: reactor) }
    /// Gives the channel to `handedOn`, in the next round of the loop, unless the connection ends before.
    package final func handOn(on reactor: Reactor) { order(.handOn, on: reactor) }
    /// Ends TLS in our direction, as `Channel.leave(saying:)` does.
    package final func leave(saying bytes: [UInt8], on reactor: Reactor) { order(.leave(bytes), on: reactor) }
    /// Carries the connection to another owner, as `Channel.move` does.
    package final func move(to mailbox: Mailbox, on reactor: Reactor, rebuild: @escaping Channel.Rebuild) {
        order(.move(mailbox, rebuild), on: reactor)
    }

    private func order(_ order: Order, on reactor: Reactor) {
        guard !hasEnded else { return }
        if var held = channel.take() {
            Self.apply(order, to: &held)
            channel = consume held
        } else {
            lateOrders.append(order)
            if case .pause = order { isPausing = true } else if case .resume = order { isPausing = false }
        }
        reactor.revisit(self)
    }

    private static func apply(_ order: Order, to channel: inout Channel) {
        switch order {
        case .finish: channel.finish()
        case .linger: channel.finishLingering()
        case .reset: channel.reset()
        case .finishWriting: channel.finishWriting()
        case .pause: channel.pause()
        case .resume: channel.resume()
        case .handOn: channel.handOn()
        case .limitReading(let bytes): channel.readLimit = bytes
        case .leave(let bytes): channel.leave(saying: bytes)
        case .move(let mailbox, let rebuild): channel.move(to: mailbox, rebuild: rebuild)
        }
    }

    /// Whether bytes we sent went unanswered for so long that the path must be gone.
    package final func isPathDead(silentMilliseconds milliseconds: UInt32 = OwnedDescriptor.silentMilliseconds) -> Bool {
        switch channel {
        case .some(let channel): channel.transport.isPathDead(silentMilliseconds: milliseconds)
        case .none: false
        }
    }

    /// Finishes at once, unless overridden.
    open override func drain(on reactor: Reactor) { finish(on: reactor) }

    /// Ends now.
    public final override func abort(on reactor: Reactor) { end(.aborted, on: reactor) }

    /// Ends now, with a reason of the caller's.
    package final func end(_ reason: CloseReason, on reactor: Reactor) {
        guard !hasEnded else { return }
        hasEnded = true
        if resetsOnFailure {
            if reason != .finished { channel?.resetOnClose() }
        } else if reason == .aborted, isOpened {
            // A client that sees TLS cut without close_notify may take it for an attack and not come back.
            channel?.sayGoodbye()
        }
        reactor.remove(self, descriptor: descriptor)
        channel = nil
        closed(reason, on: reactor)
    }

    // The loop

    public final override func deadlinePassed(on reactor: Reactor) {
        if isAtGate {
            // It is not the peer that lets us wait.
            if let openingMilliseconds { reactor.setDeadline(of: self, inMilliseconds: openingMilliseconds) }
            return
        }
        if isLingering || stalledAt != nil { abort(on: reactor) } else { expired(on: reactor) }
    }

    public final override func ready(_ readiness: Readiness, on reactor: Reactor) {
        guard var channel = self.channel.take() else { return }
        channel.note(readiness)
        do {
            if !isOpened {
                guard try mayBegin(&channel, on: reactor), try channel.establish() else {
                    takeLate(&channel)
                    return settle(channel, on: reactor)
                }
                isOpened = true
                try opened(&channel, on: reactor)
                if hasEnded { return }
            }
            if channel.hasInputEnded || (failsWhilePaused && channel.isPaused), !readiness.isDisjoint(with: .hangup) {
                try channel.transport.checkError()
                if channel.hasInputEnded { hungUp(&channel, on: reactor) }
            }
            takeLate(&channel)
            try channel.flush(reactor)
            if isLingering {
                if try channel.dropInput(reactor) { return end(.finished, on: reactor) }
                if channel.mayHaveInput { reactor.revisit(self) }
            } else {
                defer { turnEnded(on: reactor) }
                try channel.fill(self, reactor)
            }
            takeLate(&channel)
            try channel.flush(reactor)
            if case .bare = channel.wish, try channel.leave(reactor) {
                hasEnded = true
                reactor.remove(self, descriptor: descriptor)
                return bared(channel.bared(), on: reactor)
            }
        } catch let error as TransportError {
            if resetsOnFailure { channel.resetOnClose() }
            return end(.failed(error), on: reactor)
        } catch {
            if resetsOnFailure { channel.resetOnClose() }
            try? channel.flush(reactor)  // the refusal may have been written already
            return end(.refused("\(error)"), on: reactor)
        }
        if !hasEnded { settle(channel, on: reactor) }
    }

    /// Begins the handshake once the client has spoken and the gate has a place; false while it waits for that.
    private func mayBegin(_ channel: inout Channel, on reactor: Reactor) throws(TransportError) -> Bool {
        guard channel.isAwaiting else { return true }
        guard !isAtGate, try channel.transport.hasSpoken() else { return false }
        guard let gate = channel.gate else {
            try channel.begin(nil)
            return true
        }
        let token = self.token, mailbox = reactor.mailbox
        let place = gate.enter { place in
            mailbox.send { reactor in (reactor.source(token) as? Connection)?.enter(with: place, on: reactor) }
        }
        guard let place else {
            isAtGate = true
            return false
        }
        try channel.begin(place)
        return true
    }

    /// Goes on with a handshake that has waited.
    private func enter(with place: HandshakePlace, on reactor: Reactor) {
        guard isAtGate, !hasEnded, var held = channel.take() else { return }
        isAtGate = false
        do throws(TransportError) { try held.begin(place) } catch {
            channel = consume held
            return end(.failed(error), on: reactor)
        }
        channel = consume held
        if let openingMilliseconds { reactor.setDeadline(of: self, inMilliseconds: openingMilliseconds) }
        reactor.revisit(self)
    }

    private func takeLate(_ channel: inout Channel) {
        if !late.isEmpty {
            late.withBytes { channel.output.append($0) }
            late = ByteQueue()
        }
        for order in exchange(&lateOrders, with: []) { Self.apply(order, to: &channel) }
        isPausing = false
    }

    /// Gives a peer that takes something more time, and one that takes nothing no more.
    private func watchForStall(_ channel: borrowing Channel, on reactor: Reactor) {
        guard let stallMilliseconds, stalledAt != channel.queuedBytes else { return }
        stalledAt = channel.queuedBytes
        reactor.setDeadline(of: self, inMilliseconds: stallMilliseconds)
    }

    private func settle(_ channel: consuming Channel, on reactor: Reactor) {
        switch channel.wish {
        case .none:
            if isOpened, channel.hasMore { reactor.revisit(self) }
        case .bare: break  // the next event of the socket goes on with it
        case .finish:
            if !isOpened || (channel.output.isEmpty && channel.endWriting()) { return end(.finished, on: reactor) }
            watchForStall(channel, on: reactor)
        case .linger:
            if !isOpened { return end(.finished, on: reactor) }
            if !channel.output.isEmpty || !channel.endWriting() {
                watchForStall(channel, on: reactor)
            } else if !isLingering {
                isLingering = true
                channel.shutDown()
                reactor.setDeadline(of: self, inMilliseconds: 2000)
                reactor.revisit(self)
            }
        case .reset:
            channel.transport.resetOnClose()
            return end(.aborted, on: reactor)
        case .move(let mailbox, let rebuild):
            hasEnded = true
            reactor.remove(self, descriptor: descriptor)
            channel.prepareForMove()
            if mailbox === reactor.mailbox { return rebuild(channel, reactor).start(on: reactor) }
            return mailbox.adopt(channel, rebuild)
        case .handOn:
            hasEnded = true
            reactor.remove(self, descriptor: descriptor)
            channel.prepareForMove()
            return handedOn(channel, on: reactor)
        }
        channel.releaseBuffers(reactor)
        let isDrained = channel.takeDrained()
        self.channel = consume channel
        if isDrained { drained(on: reactor) }
    }
}

extension Channel {
    fileprivate func resetOnClose() { transport.resetOnClose() }
    fileprivate func sayGoodbye() { _ = transport.finishWriting() }
}

extension Mailbox {
    /// Carries a live connection to this mailbox's reactor: bytes in flight and TLS session included.
    package func adopt(_ channel: consuming Channel, _ rebuild: @escaping Channel.Rebuild) {
        final class Crate: Sendable {  // closures cannot consume a captured ~Copyable value
            let channel: Mutex<Channel?>
            init(_ channel: consuming Channel) { self.channel = Mutex(channel) }
        }
        let crate = Crate(channel)
        send { reactor in
            if let channel = crate.channel.withLock({ $0.take() }) { rebuild(channel, reactor).start(on: reactor) }
        }
    }
}
