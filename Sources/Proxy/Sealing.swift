import Connections
import Console
import Dialing
import LinuxIO
import Relay
import TLS
import Trust
import Wire

/// The service's end of end-to-end sessions with devices behind one hub: who it is to them, whether they are the right ones, tickets to
/// resume by, and where the blind switch does not work.
final class Sealing {
    private let trust: ServiceTrust
    private let hub: HostPort
    private let way: String
    private var context: TLSContext
    private var generation: Int
    private let role: String
    private var tickets: [ClientIdentity: TLSSessionCache] = [:]
    private var prepared: [Prepared] = []
    private var noticed: Set<ClientIdentity> = []
    private static let limit = 64

    /// - Parameter role: for the lines that a person reads.
    init(_ settings: ServiceSettings, role: String) throws(Failure) {
        trust = settings.trust
        hub = settings.connection.host
        way = settings.access.proxies.proxy(for: hub)?.description ?? "direct"
        self.role = role
        let (identity, generation) = trust.identity.current
        self.generation = generation
        do throws(TLSError) {
            context = try TLSContext.endToEndClient(chain: identity.chain, key: identity.key)
        } catch {
            throw .data("this service's key: \(error)")
        }
    }

    /// This service, as devices list it.
    var fingerprint: String { trust.identity.current.identity.fingerprint.description }

    // The way to the hub

    /// Whether the blind switch has failed there within the last day.
    var isPathBad: Bool { trust.paths.isBad(hub: hub, way: way, now: Clock.unixSeconds) }
    /// It failed, and the same inside a WebSocket did not.
    func notePathBad() { trust.paths.noteBad(hub: hub, way: way, now: Clock.unixSeconds) }
    func notePathGood() { trust.paths.noteGood(hub: hub, way: way, now: Clock.unixSeconds) }

    // Plain streams

    /// Whether a stream that the hub can read will do; throws why not. Tells the person, once for each device.
    func allowPlain(to client: ClientIdentity) throws(TrustError) {
        if try trust.devices.insists(hub: hub, device: client) { throw trust.devices.downgraded(client) }
        guard noticed.count < Self.limit, noticed.insert(client).inserted else { return }
        Output.warn(role: role, "streams to \(client) are not encrypted end to end: the hub or the device's agent cannot do it")
    }

    // Sessions

    private func tickets(of client: ClientIdentity) -> TLSSessionCache {
        if let known = tickets[client] { return known }
        if tickets.count >= Self.limit { tickets.removeAll() }
        let fresh = TLSSessionCache()
        tickets[client] = fresh
        return fresh
    }

    /// A session came to nothing: the next one begins anew.
    func forgetTickets(of client: ClientIdentity) {
        tickets[client]?.forget()
        prepared.removeAll { $0.target.client == client }
    }

    /// For the next session: shows a certificate that has been renewed as soon as it is there. Tickets stand for the old one.
    private func newestContext() -> TLSContext {
        let (identity, generation) = trust.identity.current
        if generation != self.generation, let fresh = try? TLSContext.endToEndClient(chain: identity.chain, key: identity.key) {
            context = fresh
            self.generation = generation
            tickets.removeAll()
            prepared.removeAll()
        }
        return context
    }

    /// A session that nobody has asked for yet.
    private final class Prepared {
        let target: StreamTarget
        let made = Clock.milliseconds
        var session: TLSSession?

        init(_ session: consuming TLSSession, to target: StreamTarget) {
            self.session = consume session
            self.target = target
        }
    }

    /// What they have sealed their tickets with may have gone by then.
    private static let preparedMilliseconds: UInt64 = 300_000

    /// Begins sessions for the next streams to a target, and forgets those for others.
    func prepare(_ count: Int, for target: StreamTarget) {
        _ = newestContext()
        let now = Clock.milliseconds
        prepared.removeAll { $0.target != target || now - $0.made > Self.preparedMilliseconds }
        while prepared.count < min(count, Self.limit), let session = try? make(for: target) {
            prepared.append(Prepared(session, to: target))
        }
    }

    /// A session that has been prepared, if there is one.
    func takePrepared(for target: StreamTarget) -> TLSSession? {
        _ = newestContext()
        guard let index = prepared.lastIndex(where: { $0.target == target }) else { return nil }
        let taken = prepared.remove(at: index)
        return Clock.milliseconds - taken.made > Self.preparedMilliseconds ? nil : taken.session.take()
    }

    /// Begins the session of a stream before there is a way for it.
    func begin(to target: StreamTarget) throws(TLSError) -> TLSSession {
        if let ready = takePrepared(for: target) { return ready }
        return try make(for: target)
    }

    private func make(for target: StreamTarget) throws(TLSError) -> TLSSession {
        try TLSSession(
            connectingEndToEnd: newestContext(), peer: target.client.clientID,
            protocolName: StreamPurpose.protocolName(of: target.client, stream: target.remote), cache: tickets(of: target.client))
    }

    /// Goes on with the handshake of a stream's session.
    /// - Parameters:
    ///   - begun: the session.
    ///   - socket: carries nothing else, whichever way it goes.
    ///   - hasSpoken: whether the session's first flight has gone out on it.
    ///   - milliseconds: for the handshake, the coming of the device's leg included.
    ///   - answer: gets the channel, or why there is none.
    func proceed(
        with begun: consuming TLSSession, over socket: consuming OwnedDescriptor, hasSpoken: Bool, to target: StreamTarget,
        withinMilliseconds milliseconds: Int, on reactor: Reactor,
        _ answer: @escaping (consuming Result<Channel, SealingFailure>, Reactor) -> Void
    ) throws(TLSError) -> SealedHandshake {
        let client = target.client, verdict = Verdict(), cache = tickets(of: client)
        let transport = try Transport(connecting: socket, begun, hasSpoken: hasSpoken)
        transport.keepAlive()
        let admits: ([[UInt8]]) -> Bool = { [self] chain in
            verdict.refusal = refusal(of: client, showing: chain)
            return verdict.refusal == nil
        }
        let handshake = SealedHandshake(transport, withinMilliseconds: milliseconds, admits: admits) { result, reactor in
            switch consume result {
            case .success(let channel): answer(.success(channel), reactor)
            case .failure(let refusal):
                cache.forget()
                answer(.failure(Self.failure(verdict.refusal, refusal)), reactor)
            }
        }
        handshake.start(on: reactor)
        return handshake
    }

    private static func failure(_ verdict: TrustError?, _ refusal: SealedHandshake.Refusal) -> SealingFailure {
        if let verdict { return .untrusted(verdict) }
        if case .failed(.tls(.alert(let words))) = refusal { return .refused(words) }
        return .broken(refusal.description)
    }

    private final class Verdict { var refusal: TrustError? }

    private func refusal(of client: ClientIdentity, showing chain: [[UInt8]]) -> TrustError? {
        do throws(TrustError) {
            switch try trust.devices.admit(hub: hub, device: client, chain: chain, now: Clock.unixSeconds) {
            case .known: break
            case .remembered(let fingerprint):
                Output.tell("iotstream \(role): the key of \(client) is \(fingerprint), and is remembered from now on")
            case .unwritten(let fingerprint, let reason):
                Output.warn(role: role, "the key of \(client) is \(fingerprint), and cannot be written down: \(reason)")
            }
            return nil
        } catch {
            return error
        }
    }
}

/// Why no end-to-end session came to be.
enum SealingFailure: Error, Equatable {
    /// The device is not the right one.
    case untrusted(TrustError)
    /// The device gave up with an alert, in its words.
    case refused(String)
    /// The connection ended, carried something else or said nothing; in words.
    case broken(String)
}
