import Connections
import LinuxIO
import TLS
import Wire

/// Reaches a hub: takes a spare connection where one is kept, else resolves its name, dials it or its proxy, and makes the TLS
/// connection. Answers once, with a channel whose handshake is over, or with why there is none.
package final class HubDial: Source {
    package typealias Answer = (consuming Result<Channel, DialError>, Reactor) -> Void

    /// When each part was over, in nanoseconds of `Clock.nanoseconds`; nil for what was not needed.
    package struct Marks: Sendable {
        package var began: UInt64 = Clock.nanoseconds
        package var resolved, connected, tunnelled, encrypted: UInt64?
        /// Whether the TLS session resumed an earlier one.
        package var isResumed = false
    }

    /// Whether a spare connection will do. Whoever takes one makes another attempt, with `none`, should it turn out dead.
    package enum SpareUse: Sendable {
        case none
        /// For a leg of a stream; spare connections are kept to where these go.
        case leg
        /// For a request.
        case request
    }

    /// What is under way and has to be ended with us.
    private enum Step {
        /// A spare connection is on its way to us.
        case waiting
        /// The addresses are known; the next round of the loop goes on with them.
        case begun([SocketAddress])
        case resolving
        case dialing(Dialer)
        case tunnelling(ProxyTunnel)
        case shakingHands(Handshake)
        case over
    }

    private let access: HubAccess
    private let place: HostPort
    private let proxy: ProxyServer?
    private let connectMilliseconds: Int
    private var answer: Answer?
    private var step = Step.resolving
    /// Addresses that are being tried and are an answer of some time ago; and those that have failed.
    private var remembered: [SocketAddress]?
    private var refuted: ([SocketAddress], DialError)?
    /// The connection was a spare one, made some time ago: it may be dead without anybody knowing.
    package private(set) var isSpare = false
    package private(set) var marks = Marks()

    /// Starts at once; the answer comes later, from the reactor's loop.
    /// - Parameters:
    ///   - place: host and port; 443 when it names no port.
    ///   - behind: the connection of this request, if it is kept and leads there, goes before any other.
    ///   - connectMilliseconds: for the TCP connection alone.
    ///   - milliseconds: for the whole.
    @discardableResult
    package init(
        to place: HostPort, through access: HubAccess, spare: SpareUse = .leg, behind earlier: HubExchangeTicket? = nil,
        connectMilliseconds: Int = 15_000, withinMilliseconds milliseconds: Int = 30_000, on reactor: Reactor, _ answer: @escaping Answer
    ) {
        self.place = HostPort(host: place.host, port: place.port ?? 443)
        self.access = access
        self.connectMilliseconds = connectMilliseconds
        self.answer = answer
        proxy = access.proxies.proxy(for: self.place)
        super.init()
        reactor.add(self)
        reactor.setDeadline(of: self, inMilliseconds: milliseconds)
        if earlier?.giveConnection(to: self, at: self.place, on: reactor) == true {
            step = .waiting
        } else if spare != .none, let spares = access.spares(on: reactor),
            spares.serve(self, to: self.place, isLeg: spare == .leg, on: reactor)
        {
            step = .waiting
        } else {
            begin(on: reactor)
        }
    }

    /// Whom the socket connects to.
    private var next: HostPort { proxy?.place ?? place }

    private func begin(on reactor: Reactor) {
        if let known = access.known(next.host, port: next.port ?? 443, on: reactor) {
            step = .begun(known.addresses)
            remembered = known.isRemembered ? known.addresses : nil
            reactor.revisit(self)
        } else {
            lookUp(on: reactor)
        }
    }

    private func lookUp(on reactor: Reactor) {
        step = .resolving
        let token = token
        access.lookUp(next.host, port: next.port ?? 443, answerOn: reactor.mailbox) { result, reactor in
            (reactor.source(token) as? HubDial)?.resolved(result, on: reactor)
        }
    }

    public override func ready(_ readiness: Readiness, on reactor: Reactor) {
        if case .begun(let addresses) = step { dial(addresses, on: reactor) }
    }

    /// The spare connection that was on its way.
    func spared(_ channel: consuming Channel, isFresh: Bool, on reactor: Reactor) {
        guard answer != nil else { return }
        isSpare = !isFresh
        encrypted(channel, on: reactor)
    }

    /// Whether a spare connection is on its way.
    var isWaiting: Bool { if case .waiting = step { true } else { false } }

    /// No spare connection will come.
    func spareLost(on reactor: Reactor) {
        guard case .waiting = step else { return }
        begin(on: reactor)
    }

    /// Gives up without an answer.
    package func cancel(on reactor: Reactor) {
        answer = nil
        end(on: reactor)
    }

    public override func deadlinePassed(on reactor: Reactor) { fail(.timedOut(place: place.description), on: reactor) }
    /// Whoever wanted the connection decides whether a drain ends it.
    public override var isBackground: Bool { true }
    public override func abort(on reactor: Reactor) { cancel(on: reactor) }

    private func resolved(_ result: Result<[SocketAddress], Resolver.Failure>, on reactor: Reactor) {
        guard case .resolving = step else { return }
        switch result {
        case .failure(let failure): fail(.unresolved(proxy == nil ? "\(failure)" : "proxy: \(failure)"), on: reactor)
        case .success(let addresses):
            if let (tried, error) = refuted.take(), tried == addresses { return fail(error, on: reactor) }
            dial(addresses, on: reactor)
        }
    }

    private func dial(_ addresses: [SocketAddress], on reactor: Reactor) {
        marks.resolved = Clock.nanoseconds
        // The answer may come while the dialer is being made; what it then set must stay.
        var isAnswered = false
        let dialer = Dialer(to: addresses, withinMilliseconds: connectMilliseconds, on: reactor) { [self] socket, error, reactor in
            isAnswered = true
            dialled(socket, error, on: reactor)
        }
        if !isAnswered { step = .dialing(dialer) }
    }

    private func dialled(_ socket: consuming OwnedDescriptor?, _ error: SystemError, on reactor: Reactor) {
        guard answer != nil else { return }
        guard let socket else {
            let target = proxy.map { "proxy \($0)" } ?? place.description,
                error = DialError.unreachable(place: target, reason: error.reason)
            access.forget(next.host, port: next.port ?? 443)
            guard let tried = remembered.take() else { return fail(error, on: reactor) }
            refuted = (tried, error)  // it may have moved
            return lookUp(on: reactor)
        }
        marks.connected = Clock.nanoseconds
        guard let proxy else { return encrypt(socket, on: reactor) }
        do throws(SystemError) {
            step = .tunnelling(
                try ProxyTunnel(socket, through: proxy, to: place, on: reactor) { [self] result, reactor in
                    switch consume result {
                    case .success(let socket):
                        marks.tunnelled = Clock.nanoseconds
                        encrypt(socket, on: reactor)
                    case .failure(let error): fail(error, on: reactor)
                    }
                })
        } catch {
            fail(.system("proxy \(proxy): \(error.reason)"), on: reactor)
        }
    }

    private func encrypt(_ socket: consuming OwnedDescriptor, on reactor: Reactor) {
        guard answer != nil else { return }
        do throws(TLSError) {
            let (context, cache) = access.means(for: place)
            let transport = try Transport(connecting: socket, context, host: place.host, cache: cache)
            transport.keepAlive()
            let handshake = Handshake(Channel(transport), of: self)
            step = .shakingHands(handshake)
            handshake.start(on: reactor)
        } catch {
            fail(.tls(place: place.description, error), on: reactor)
        }
    }

    fileprivate func encrypted(_ channel: consuming Channel, on reactor: Reactor) {
        step = .over
        marks.encrypted = Clock.nanoseconds
        marks.isResumed = channel.transport.isResumed
        guard let answer = answer.take() else { return }
        reactor.remove(self)
        answer(.success(channel), reactor)
    }

    fileprivate func handshakeFailed(_ reason: CloseReason, on reactor: Reactor) {
        guard answer != nil else { return }
        switch reason {
        case .failed(.tls(let error)): fail(.tls(place: place.description, error), on: reactor)
        case .failed(let error): fail(.unreachable(place: place.description, reason: error.description), on: reactor)
        case .finished, .aborted, .refused: fail(.tls(place: place.description, .truncated), on: reactor)
        }
    }

    private func fail(_ error: DialError, on reactor: Reactor) {
        let answer = answer.take()
        end(on: reactor)
        answer?(.failure(error), reactor)
    }

    private func end(on reactor: Reactor) {
        let last = exchange(&step, with: .over)
        reactor.remove(self)
        switch last {
        case .waiting, .begun, .resolving, .over: break
        case .dialing(let dialer): dialer.cancel(on: reactor)
        case .tunnelling(let tunnel): tunnel.cancel(on: reactor)
        case .shakingHands(let handshake): handshake.abort(on: reactor)
        }
    }
}

/// The client's side of a TLS handshake; gives the channel on as soon as it is over.
private final class Handshake: Connection {
    private var dial: HubDial?

    init(_ channel: consuming Channel, of dial: HubDial) {
        self.dial = dial
        super.init(channel)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws { channel.handOn() }
    override func handedOn(_ channel: consuming Channel, on reactor: Reactor) { dial.take()?.encrypted(channel, on: reactor) }
    override func closed(_ reason: CloseReason, on reactor: Reactor) { dial.take()?.handshakeFailed(reason, on: reactor) }
    /// The dial decides.
    override func drain(on reactor: Reactor) {}
    override var isBackground: Bool { true }
}
