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
    private let role: String

    init(_ settings: ServiceSettings, role: String) throws(Failure) {
        self.settings = settings
        sealing = try Sealing(settings, role: role)
        self.role = role
        token = ServiceToken(settings.connection)
        exchange = HubExchange(with: settings.connection.host, through: settings.access, bodyLimit: 65536)
    }

    /// Has spare connections made, if any are wished for, and otherwise the name looked up of whom the first one will go to. Says nothing
    /// while the hub cannot be reached.
    /// - Parameter streams: for how many new streams at once.
    func start(warmFor streams: Int, on reactor: Reactor) {
        // One more than there are to be streams: each is asked for by a request.
        spares = SpareConnections(
            streams == 0 ? 0 : streams + 1, to: settings.connection.host, through: settings.access, on: reactor)
        let first = settings.access.proxies.proxy(for: settings.connection.host)?.place ?? settings.connection.host
        settings.access.resolve(first.host, port: first.port ?? 443, on: reactor) { _, _ in }
    }

    /// Closes what nobody uses. Streams go on, and requests are answered.
    func stop(on reactor: Reactor) {
        spares.take()?.stop(on: reactor)
        exchange.closeIdle(on: reactor)
    }

    /// A stream has been opened, over the connection by which it was asked for. Where there was one there will be another, and a connection
    /// to ask over can be made meanwhile.
    func expectRequest(on reactor: Reactor) { spares?.expectSoon(on: reactor) }

    /// The request that opens a stream (device-streams 3.1, 3.2), with the ways that are offered to the device (iotstream-protocol).
    func request(for target: StreamTarget, offering ways: [StreamWay]) -> HubRequest {
        HubRequest(
            "POST", target.requestTarget,
            headers: [
                "Authorization": token.text(now: Clock.unixSeconds),
                "iothub-streaming-connect-timeout-in-seconds": String(settings.waitSeconds),
                "iothub-streaming-response-timeout-in-seconds": String(Self.responseSeconds),
                "iotstream-offer": StreamWay.text(ways),
                "User-Agent": "iotstream/\(Product.version)",
            ])
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
