import Console
import Dialing
import LinuxIO
import Relay
import Wire

/// A hub as its service client on one reactor: connections for requests that are kept, the token, whom to trust.
final class HubService {
    let settings: ServiceSettings
    let exchange: HubExchange
    let sealing: Sealing
    private var token: ServiceToken
    private var spares: SpareConnections?
    private var warm = 0
    private var preparing: Timer?
    private let role: String
    /// The connection of a request is to become the stream's leg, where a blind stream is offered. It is not once that has failed, be it
    /// that the hub does not know it, nor for a device that then chose something else.
    private var isJoinBroken = false
    private var apart: Set<ClientIdentity> = []
    private static let apartLimit = 64

    init(_ settings: ServiceSettings, role: String) throws(Failure) {
        self.settings = settings
        sealing = try Sealing(settings, role: role)
        self.role = role
        token = ServiceToken(settings.connection)
        exchange = HubExchange(with: settings.connection.host, through: settings.access, bodyLimit: 65536)
    }

    /// Has spare connections made, if any are wished for, and otherwise one for the first stream, which may come at once. Says nothing while
    /// the hub cannot be reached.
    /// - Parameter streams: for how many new streams at once.
    func start(warmFor streams: Int, on reactor: Reactor) {
        warm = streams
        // One more than there are to be streams: each is asked for by a request.
        spares = SpareConnections(
            streams == 0 ? 0 : streams + 1, to: settings.connection.host, through: settings.access, on: reactor)
        if streams == 0 { Leisure(on: reactor) { [weak self] reactor in self?.spares?.expect(on: reactor) } }
        let first = settings.access.proxies.proxy(for: settings.connection.host)?.place ?? settings.connection.host
        settings.access.resolve(first.host, port: first.port ?? 443, on: reactor) { _, _ in }
    }

    /// Closes what nobody uses. Streams go on, and requests are answered.
    func stop(on reactor: Reactor) {
        spares.take()?.stop(on: reactor)
        if let preparing = preparing.take() { reactor.remove(preparing) }
        exchange.closeIdle(on: reactor)
    }

    /// A stream has been opened, over the connection by which it was asked for. Where there was one there will be another, and a connection
    /// to ask over can be made meanwhile; where connections are kept ready, so are the beginnings of sessions to go with them.
    func expectRequest(for target: StreamTarget, on reactor: Reactor) {
        spares?.expectSoon(on: reactor)
        guard warm > 0, preparing == nil, spares != nil else { return }
        preparing = Timer(on: reactor) { [weak self] timer, reactor in
            reactor.remove(timer)
            self?.preparing = nil
            if let self { sealing.prepare(warm, for: target) }
        }
        preparing?.set(inMilliseconds: SpareConnections.refillMilliseconds, on: reactor)
    }

    /// Whether the connection of the next request is to become the leg of a blind stream.
    func joinsAtOnce(_ client: ClientIdentity) -> Bool { !isJoinBroken && !apart.contains(client) }

    /// A request whose connection was to become the leg has come to nothing: from now on each leg has a connection of its own.
    func noteJoinFailed() { isJoinBroken = true }

    /// A device has chosen; where that is no blind stream, the next request's connection can be had for another leg.
    func noteChoice(of client: ClientIdentity, isBlind: Bool) {
        if isBlind {
            apart.remove(client)
        } else if apart.count < Self.apartLimit {
            apart.insert(client)
        }
    }

    /// The request that opens a stream (device-streams 3.1, 3.2), with the ways that are offered to the device (iotstream-protocol).
    /// - Parameter becomesLeg: its connection is to become the stream's leg.
    func request(for target: StreamTarget, offering ways: [StreamWay], becomesLeg: Bool) -> HubRequest {
        var request = HubRequest(
            "POST", target.requestTarget,
            headers: [
                "Authorization": token.text(now: Clock.unixSeconds),
                "iothub-streaming-connect-timeout-in-seconds": String(settings.waitSeconds),
                "iothub-streaming-response-timeout-in-seconds": String(Self.responseSeconds),
                "iotstream-offer": StreamWay.text(ways),
                "User-Agent": "iotstream/\(Product.version)",
            ])
        if becomesLeg { for field in BlindHandshake.fields.fields { request.headers.add(field.name, field.value) } }
        return request
    }

    /// A request that the hub answers by itself, and that shows the service's token.
    func smallRequest() -> HubRequest {
        HubRequest(
            "GET", "/statistics/service?api-version=2021-04-12",
            headers: ["Authorization": token.text(now: Clock.unixSeconds), "User-Agent": "iotstream/\(Product.version)"])
    }

    /// For a person at the device to decide.
    private static let responseSeconds = 60
    /// Both, and what the way there takes.
    var patienceMilliseconds: Int { (settings.waitSeconds + Self.responseSeconds + 15) * 1000 }

    /// What a person should know of a stream that did not end in order; nil: nothing, its own ends know.
    func complaint(about report: LocalBridge.Report, of target: StreamTarget) -> String? {
        let hasAnswered = report.bytesToLocal > 0
        switch report.end {
        case .orderly, .refused, .aborted: return nil
        case .localReset, .peerReset:
            if !hasAnswered { sealing.forgetTickets(of: target.client) }  // a device that no longer admits us says no more than this
            return nil
        case .alert where !hasAnswered:
            sealing.forgetTickets(of: target.client)
            return "the device does not accept this service's key \(sealing.fingerprint)"
        case .alert, .protocolError: return report.end.description
        case .broken:
            if !hasAnswered { sealing.forgetTickets(of: target.client) }
            return report.end.description
        }
    }

    /// Takes notice of the hub's clock; true when a token of ours was made for a wrong time.
    func note(_ answer: HubAnswer) -> Bool {
        guard token.note(hubSeconds: answer.hubSeconds, now: Clock.unixSeconds) else { return false }
        let seconds = token.offset
        if seconds != 0 {
            Log.warning(
                "clock-differs", ["seconds": "\(seconds)", "hub": "\(settings.connection.host)", "used": "the hub's clock"])
        }
        return true
    }
}
