import Connections
import LinuxIO
import Wire

/// What an upgrade came to.
package struct UpgradedChannel: ~Copyable {
    /// Frames may have come behind the head already; the channel offers them to its next owner.
    package var channel: Channel
    /// The one chosen of those offered.
    package let subprotocol: String?
    /// The hub's clock: seconds since 1970 UTC; nil when it sent no date.
    package let hubSeconds: Int64?

    /// Gives the channel on; what else is here has to be looked at before.
    package consuming func take() -> Channel { channel }
}

/// Opens a WebSocket as a client: reaches the hub, asks for the upgrade and checks the 101 (RFC 6455 section 4.1). Answers once.
package final class WebSocketUpgrade {
    package typealias Answer = (consuming Result<UpgradedChannel, DialError>, Reactor) -> Void

    private var answer: Answer?
    private var attempt: UpgradeAttempt?

    /// Starts at once; the answer comes later, from the reactor's loop.
    /// - Parameters:
    ///   - url: where; always over TLS, since tokens do not go over the wire in the clear.
    ///   - place: whom to reach instead of the URL's host, certificate and all: a gateway.
    ///   - spare: whether a spare connection will do; one that turns out dead is replaced.
    ///   - bearer: the token of a stream's leg.
    ///   - behind: the connection of this request, if it is kept and leads there, goes before any other.
    ///   - connectMilliseconds: for the TCP connection alone.
    ///   - milliseconds: for reaching the hub; as much again for its answer.
    @discardableResult
    package init(
        to url: StreamURL, at place: HostPort? = nil, through access: HubAccess, spare: HubDial.SpareUse = .leg, bearer: String? = nil,
        subprotocols: [String] = [], behind earlier: HubExchangeTicket? = nil, connectMilliseconds: Int = 15_000,
        withinMilliseconds milliseconds: Int = 30_000, on reactor: Reactor, _ answer: @escaping Answer
    ) {
        self.answer = answer
        attempt = UpgradeAttempt(
            to: place ?? url.authority, through: access, spare: spare, behind: earlier, connectMilliseconds: connectMilliseconds,
            withinMilliseconds: milliseconds, on: reactor,
            ask: { [self] channel in
                WebSocketQuestion(channel, to: url, bearer: bearer, subprotocols: subprotocols) { [self] result, reactor in
                    finish(result, on: reactor)
                }
            },
            failed: { [self] error, reactor in finish(.failure(error), on: reactor) })
    }

    /// Gives up without an answer.
    package func cancel(on reactor: Reactor) {
        answer = nil
        attempt.take()?.cancel(on: reactor)
    }

    private func finish(_ result: consuming Result<UpgradedChannel, DialError>, on reactor: Reactor) {
        attempt = nil
        answer.take()?(result, reactor)
    }
}

private final class WebSocketQuestion: UpgradeQuestion {
    private let key = WebSocketHandshake.randomKey()
    private let subprotocols: [String]
    private var chosen: (subprotocol: String?, hubSeconds: Int64?)
    private var answer: WebSocketUpgrade.Answer?

    init(
        _ channel: consuming Channel, to url: StreamURL, bearer: String?, subprotocols: [String], answer: @escaping WebSocketUpgrade.Answer
    ) {
        self.subprotocols = subprotocols
        self.answer = answer
        var headers = HTTPHeaders()
        if let bearer { headers.add("Authorization", "Bearer \(bearer)") }
        super.init(
            channel, asking: WebSocketHandshake.request(to: url, key: key, subprotocols: subprotocols, headers: headers),
            of: url.authority.description
        ) { error, reactor in answer(.failure(error), reactor) }
    }

    override func accept(_ head: HTTPResponseHead, _ channel: inout Channel, on reactor: Reactor) throws {
        let subprotocol = try WebSocketHandshake.check(head, key: key, subprotocols: subprotocols)
        chosen = (subprotocol, head.headers["Date"].flatMap(HTTPDate.parse))
        channel.handOn()
    }

    override func handedOn(_ channel: consuming Channel, on reactor: Reactor) {
        answer.take()?(
            .success(UpgradedChannel(channel: channel, subprotocol: chosen.subprotocol, hubSeconds: chosen.hubSeconds)), reactor)
    }
}
