import Connections
import LinuxIO
import Streams
import Wire

extension HTTPConnection {
    /// Turns the connection into something else; false for an ordinary request.
    func upgrade(_ head: HTTPRequestHead, _ channel: inout Channel, on reactor: Reactor) throws(HTTPError) -> Bool {
        let path = head.path
        let isDevice = path == "/$iothub/websocket" || path == "/%24iothub/websocket" || path == "/%24iothub%2Fwebsocket"
        guard isDevice || path.hasPrefix(LegPath.prefix) else { return false }
        let wanted: LegUpgrade
        switch LegUpgrade.asked(by: head) {
        case .failure(let refused): return refuseUpgrade(refused.status, &channel, on: reactor)
        case .success(let upgrade): wanted = upgrade
        }
        let core = self.core
        if isDevice {
            guard case .webSocket(let offer) = wanted,
                let subprotocol = offer.subprotocols.first(where: { ASCII.equalIgnoringCase($0, "mqtt") })
            else {
                return refuseUpgrade(400, &channel, on: reactor)
            }
            let authority = core.authority(of: head)
            hasUpgraded = true
            channel.move(to: reactor.mailbox) { channel, reactor in
                var response = WebSocketHandshake.answer(to: offer, subprotocol: subprotocol)
                response.headers.add("Date", HTTPDate.text(Clock.unixSeconds))
                var channel = channel
                response.encode(into: &channel.output)
                return DeviceConnection(channel, core: core, framing: .webSocket, authority: authority)
            }
            return true
        }
        guard let leg = LegPath(path), leg.stream.home < core.mailboxes.count else { return refuseUpgrade(404, &channel, on: reactor) }
        let authorization = head.headers["Authorization"]
        hasUpgraded = true
        channel.move(to: core.mailboxes[leg.stream.home]) { channel, reactor in
            guard let desk = Desk.of(reactor) else { return Connection(channel) }
            return desk.admit(channel, path: leg, authorization: authorization, upgrade: wanted, on: reactor)
        }
        return true
    }

    private func refuseUpgrade(_ status: Int, _ channel: inout Channel, on reactor: Reactor) -> Bool {
        hasUpgraded = true
        send(on: reactor) { output in
            var response = WebSocketHandshake.refusal(status: status)
            response.headers.add("Date", HTTPDate.text(Clock.unixSeconds))
            response.encode(into: &output)
        }
        finishLingering(on: reactor)
        return true
    }
}

extension HubCore {
    /// Host and port by which a request reached the hub, for URLs that go back the same way. A name that is not the hub's
    /// gives way to its first.
    func authority(of head: HTTPRequestHead) -> HostPort {
        guard let host = head.host, answers(to: host.host) else { return HostPort(host: names.first ?? "localhost", port: httpsPort) }
        return HostPort(host: host.host, port: host.port ?? 443)
    }
}
