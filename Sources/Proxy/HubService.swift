import Console
import Dialing
import LinuxIO
import Wire

/// A hub as its service client on one reactor: connections for requests that are kept, the token, whom to trust.
final class HubService {
    let settings: ServiceSettings
    let exchange: HubExchange
    private var token: ServiceToken
    private let role: String

    init(_ settings: ServiceSettings, role: String) {
        self.settings = settings
        self.role = role
        token = ServiceToken(settings.connection)
        exchange = HubExchange(with: settings.connection.host, through: settings.access, bodyLimit: 65536)
    }

    /// The request that opens a stream (device-streams 3.1, 3.2), with the offer of half-close (iotstream-protocol).
    func request(for target: StreamTarget) -> HubRequest {
        HubRequest(
            "POST", target.requestTarget,
            headers: [
                "Authorization": token.text(now: Clock.unixSeconds),
                "iothub-streaming-connect-timeout-in-seconds": String(settings.waitSeconds),
                "iothub-streaming-response-timeout-in-seconds": String(Self.responseSeconds),
                "iotstream-offer": "half-close",
                "User-Agent": "iotstream/\(Product.version)",
            ])
    }

    /// For a person at the device to decide.
    private static let responseSeconds = 60
    /// Both, and what the way there takes.
    var patienceMilliseconds: Int { (settings.waitSeconds + Self.responseSeconds + 15) * 1000 }

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
