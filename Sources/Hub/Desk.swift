import Connections
import Console
import LinuxIO
import Relay
import Serving
import Streams
import Wire

/// What one reactor keeps for the hub: the streams that live on it.
final class Desk {
    let core: HubCore
    /// This reactor's index in `core.mailboxes`.
    let home: UInt8
    private(set) var streams: [StreamIdentifier: HubStream] = [:]
    private var dateText = "", dateSecond: Int64 = -1

    init(core: HubCore, home: UInt8) {
        self.core = core
        self.home = home
    }

    /// The desk of the reactor that a callback runs on.
    static func of(_ reactor: Reactor) -> Desk? { reactor.resident as? Desk }

    var mailbox: Mailbox { core.mailboxes[Int(home)] }

    func stream(_ identifier: StreamIdentifier) -> HubStream? { streams[identifier] }
    func add(_ stream: HubStream) { streams[stream.identifier] = stream }
    func remove(_ stream: HubStream) { streams[stream.identifier] = nil }

    /// Ends the streams of an identity, or of a device with all its modules.
    func endStreams(where isMeant: (HubStream) -> Bool, _ end: StreamSession.End, on reactor: Reactor) {
        for stream in Array(streams.values) where isMeant(stream) { stream.handle(.ordered(end), on: reactor) }
    }

    /// The value of a `Date` field, made once a second.
    func httpDate() -> String {
        let now = Clock.unixSeconds
        if now != dateSecond { (dateText, dateSecond) = (HTTPDate.text(now), now) }
        return dateText
    }

    /// Gives a moved connection its leg, or its refusal (device-streams 6.4).
    func admit(
        _ channel: consuming Channel, path: LegPath, authorization: String?, upgrade: LegUpgrade, on reactor: Reactor
    ) -> Connection {
        let refusal: Int
        if let stream = streams[path.stream] {
            switch stream.admission(of: path.leg, upgrade, authorization: authorization) {
            case .open:
                var response = upgrade.answer
                response.headers.add("Date", httpDate())
                response.encode(into: &channel.output)
                return stream.take(channel, as: path.leg, upgrade, on: reactor)
            case .refused(let status): refusal = status
            }
        } else {
            refusal = 404
        }
        let code = [401: "wrong-token", 409: "used-token", 404: "no-such-stream"][refusal] ?? "wrong-kind"
        core.refused("leg", peer: channel.peer, "https", code: code, path.leg.rawValue, subject: "stream:\(path.stream)")
        var response = WebSocketHandshake.refusal(status: refusal)
        response.headers.add("Date", httpDate())
        response.encode(into: &channel.output)
        channel.finishLingering()
        let connection = Connection(channel)
        connection.stallMilliseconds = ServingLimits.stallMilliseconds
        return connection
    }
}
