import Bytes
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
    private var dial: HubDial?
    private var asking: Asking?

    /// Starts at once; the answer comes later, from the reactor's loop.
    /// - Parameters:
    ///   - url: where; always over TLS, since tokens do not go over the wire in the clear.
    ///   - place: whom to reach instead of the URL's host, certificate and all: a gateway.
    ///   - bearer: the token of a stream's leg.
    ///   - connectMilliseconds: for the TCP connection alone.
    ///   - milliseconds: for reaching the hub; as much again for its answer.
    @discardableResult
    package init(
        to url: StreamURL, at place: HostPort? = nil, through access: HubAccess, bearer: String? = nil, subprotocols: [String] = [],
        connectMilliseconds: Int = 15_000, withinMilliseconds milliseconds: Int = 30_000, on reactor: Reactor, _ answer: @escaping Answer
    ) {
        self.answer = answer
        let place = place ?? url.authority
        dial = HubDial(
            to: place, through: access, connectMilliseconds: connectMilliseconds, withinMilliseconds: milliseconds, on: reactor
        ) { [self] result, reactor in
            dial = nil
            switch consume result {
            case .failure(let error): finish(.failure(error), on: reactor)
            case .success(let channel):
                let asking = Asking(channel, of: self, url: url, bearer: bearer, subprotocols: subprotocols)
                self.asking = asking
                asking.start(on: reactor)
                reactor.setDeadline(of: asking, inMilliseconds: milliseconds)
            }
        }
    }

    /// Gives up without an answer.
    package func cancel(on reactor: Reactor) {
        answer = nil
        dial.take()?.cancel(on: reactor)
        asking.take()?.abort(on: reactor)
    }

    fileprivate func finish(_ result: consuming Result<UpgradedChannel, DialError>, on reactor: Reactor) {
        asking = nil
        answer.take()?(result, reactor)
    }
}

/// The connection while the request is out and the answer not yet complete.
private final class Asking: Connection {
    private var upgrade: WebSocketUpgrade?
    private let place: String
    private let request: HTTPRequestHead
    private let key = WebSocketHandshake.randomKey()
    private let subprotocols: [String]
    private var chosen: (subprotocol: String?, hubSeconds: Int64?)
    private var failure: DialError?

    init(_ channel: consuming Channel, of upgrade: WebSocketUpgrade, url: StreamURL, bearer: String?, subprotocols: [String]) {
        self.upgrade = upgrade
        self.subprotocols = subprotocols
        place = url.authority.description
        var headers = HTTPHeaders()
        if let bearer { headers.add("Authorization", "Bearer \(bearer)") }
        request = WebSocketHandshake.request(to: url, key: key, subprotocols: subprotocols, headers: headers)
        super.init(channel)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws { request.encode(into: &channel.output) }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        do {
            guard case .complete(let head, let consumed) = try HTTPResponseHead.parse(bytes) else { return 0 }
            let subprotocol = try WebSocketHandshake.check(head, key: key, subprotocols: subprotocols)
            chosen = (subprotocol, head.headers["Date"].flatMap(HTTPDate.parse))
            channel.handOn()
            return consumed
        } catch WebSocketHandshake.Failure.refused(let status) {
            throw note(.refused(place: place, status: status))
        } catch let error as HTTPError {
            throw note(.malformed(place: place, reason: "does not answer as a hub: \(error)"))
        } catch {
            throw note(.malformed(place: place, reason: "answered the upgrade to WebSocket wrongly"))
        }
    }

    private func note(_ error: DialError) -> DialError {
        failure = error
        return error
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        throw note(.cut(place: place, reason: "hung up without an answer", answerBegun: false))
    }

    override func expired(on reactor: Reactor) {
        failure = .timedOut(place: place)
        abort(on: reactor)
    }

    override func handedOn(_ channel: consuming Channel, on reactor: Reactor) {
        let result = UpgradedChannel(channel: channel, subprotocol: chosen.subprotocol, hubSeconds: chosen.hubSeconds)
        upgrade.take()?.finish(.success(result), on: reactor)
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        let text = if case .failed(let error) = reason { "\(error)" } else { "the connection ended" }
        upgrade.take()?.finish(.failure(failure ?? .cut(place: place, reason: text, answerBegun: false)), on: reactor)
    }

    override func drain(on reactor: Reactor) {}
    override var isBackground: Bool { true }
}
