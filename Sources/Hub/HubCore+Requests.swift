import Connections
import LinuxIO
import Serving
import Streams
import Wire

/// The requests of the HTTPS port: of the service API, of devices over HTTPS, for files; and upgrades to a device's MQTT connection or to a
/// leg of a stream.
extension HubCore: HTTPService {
    var servingLimits: ServingLimits { server.limits }
    func date(on reactor: Reactor) -> String { Desk.of(reactor)?.httpDate() ?? HTTPDate.text(Clock.unixSeconds) }

    func begin(_ head: HTTPRequestHead, on connection: HTTPConnection, _ reactor: Reactor) -> HTTPCourse {
        if let neighbour, neighbour.owns(head) { return neighbour.begin(head, on: connection, reactor) }
        if let upgrade = upgrade(head, on: reactor) { return upgrade }
        if let file = BlobRequest(head, on: connection, of: self, reactor) { return file.begin() }
        return .body(
            CollectedBody(limit: servingLimits.requestBytes) { [self, unowned connection] content in
                ServiceRequest(core: self, head: head, body: content, connection: connection, reactor: reactor).serve()
            })
    }

    /// Nil for an ordinary request.
    private func upgrade(_ head: HTTPRequestHead, on reactor: Reactor) -> HTTPCourse? {
        let path = head.path
        let isDevice =
            path == "/$iothub/websocket" || path == "/%24iothub/websocket" || path == "/%24iothub%2Fwebsocket"
            || head.headers.contains("Upgrade") && neighbour?.takesWebSocket(on: path) == true
        guard isDevice || path.hasPrefix(LegPath.prefix) else { return nil }
        let wanted: LegUpgrade
        switch LegUpgrade.asked(by: head) {
        case .failure(let refused): return .noUpgrade(refused.status)
        case .success(let upgrade): wanted = upgrade
        }
        if isDevice {
            guard case .webSocket(let offer) = wanted,
                let subprotocol = offer.subprotocols.first(where: { ASCII.equalIgnoringCase($0, "mqtt") })
            else {
                return .noUpgrade(400)
            }
            let authority = authority(of: head)
            return .upgrade(reactor.mailbox) { channel, reactor in
                var response = WebSocketHandshake.answer(to: offer, subprotocol: subprotocol)
                response.headers.add("Date", HTTPDate.text(Clock.unixSeconds))
                var channel = channel
                response.encode(into: &channel.output)
                return DeviceConnection(channel, core: self, framing: .webSocket, authority: authority)
            }
        }
        guard let leg = LegPath(path), leg.stream.home < mailboxes.count else { return .noUpgrade(404) }
        let authorization = head.headers["Authorization"]
        return .upgrade(mailboxes[leg.stream.home]) { channel, reactor in
            guard let desk = Desk.of(reactor) else { return Connection(channel) }
            return desk.admit(channel, path: leg, authorization: authorization, upgrade: wanted, on: reactor)
        }
    }

    /// Host and port by which a request reached the hub, for URLs that go back the same way. A name that is not the hub's
    /// gives way to its first.
    func authority(of head: HTTPRequestHead) -> HostPort {
        guard let host = head.host, answers(to: host.host) else { return HostPort(host: names.first ?? "localhost", port: httpsPort) }
        return HostPort(host: host.host, port: host.port ?? 443)
    }
}
