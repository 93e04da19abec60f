import Connections
import LinuxIO
import Relay
import Serving
import Streams
import Wire

// The legs of a stream: how they come, are joined and rationed, and end.
extension HubStream {
    func admission(of leg: Leg, _ upgrade: LegUpgrade, authorization: String?) -> Admission {
        guard let authorization, authorization.count > 7, ASCII.equalIgnoringCase(String(authorization.prefix(7)), "Bearer "),
            (leg == .device ? deviceToken : serviceToken).matches(String(authorization.dropFirst(7)))
        else { return .refused(status: 401) }
        switch session.admits(leg) {
        case .open: break
        case .used: return .refused(status: 409)
        case .closed: return .refused(status: 404)
        }
        // Before its answer, a device may come in any way that was offered.
        let fits = session.state == .pending ? upgrade.fits(nil) || order.offer.contains(.blind) : upgrade.fits(chosen)
        return fits ? .open : .refused(status: 400)
    }

    /// Makes a leg of an admitted channel, which the caller starts. It has come from now on: nobody comes a second time.
    func take(_ channel: consuming Channel, as leg: Leg, _ upgrade: LegUpgrade, on reactor: Reactor) -> Connection {
        if leg == .device { deviceUpgrade = upgrade }
        switch upgrade {
        case .blind:
            let connection = BlindSwitch(
                channel, of: self, as: leg, withinMilliseconds: desk.core.servingLimits.handshakeSeconds * 1000)
            switches[leg] = connection
            handle(.legAdmitted(leg), on: reactor)
            return connection
        case .webSocket:
            // An early device leg comes before it is known what the device chose; nothing flows before both have joined, so the
            // offer decides whether an early empty message is kept.
            let passesEmpty = session.state == .pending ? order.offer.contains { $0 != .blind } : passesEmpty
            let connection = WebSocketLeg(channel, owner: self, passesEmpty: passesEmpty)
            arrived(connection, as: leg, on: reactor)
            return connection
        }
    }

    /// Makes the service's leg of the connection that the stream was asked for over: as good as its token, which nobody is told then.
    func takeRequester(_ channel: consuming Channel, on reactor: Reactor) -> Connection {
        var channel = channel
        guard session.admits(.service) == .open else {
            channel.finish()
            return Connection(channel)
        }
        var answer = BlindHandshake.answer()
        for (name, value) in [("iothub-streaming-is-accepted", "True"), ("iotstream-chosen", StreamWay.blind.rawValue)] {
            answer.headers.add(name, value)
        }
        answer.headers.add("Date", desk.httpDate())
        answer.encode(into: &channel.output)
        return take(channel, as: .service, .blind, on: reactor)
    }

    /// Between our own end points an empty message ends a direction.
    private var passesEmpty: Bool { chosen == .halfClose || chosen == .endToEnd }

    /// A blind leg has left TLS.
    func switched(_ socket: consuming BareSocket, as leg: Leg, on reactor: Reactor) {
        guard switches.removeValue(forKey: leg) != nil else { return }
        let connection = BlindLeg(socket, owner: self)
        connection.start(on: reactor)
        arrived(connection, as: leg, on: reactor)
    }

    /// A blind leg has not left TLS as it had to.
    func switchFailed(_ reason: String, of leg: Leg, on reactor: Reactor) {
        guard switches.removeValue(forKey: leg) != nil else { return }
        if legEnd.isEmpty { legEnd = "\(leg.rawValue): \(reason)" }
        handle(.legEnded(leg), on: reactor)
    }

    private func arrived(_ connection: any HubLeg, as leg: Leg, on reactor: Reactor) {
        if leg == .device {
            deviceLeg = connection
            devicePeer = connection.peer?.description ?? ""
        } else {
            serviceLeg = connection
        }
        if let throttle {
            connection.throttle = throttle
            connection.throttleOpened(on: reactor)
        } else {
            ration(on: reactor)
        }
        handle(.legArrived(leg), on: reactor)
    }

    /// Keeps to the rates of now, from the next byte on.
    func ration(on reactor: Reactor) {
        guard deviceLeg != nil || serviceLeg != nil, session.state != .ended else { return }
        let rates = desk.core.allotments.rates(of: client.deviceID), old = throttle
        guard !rates.isUnlimited || old != nil else { return }
        throttle = rates.isUnlimited ? nil : old ?? Throttle(rates, now: reactor.moment)
        deviceLeg?.throttle = throttle
        serviceLeg?.throttle = throttle
        if throttle == nil { old?.end(on: reactor) } else { old?.set(rates, now: reactor.moment) }
        for leg in [deviceLeg, serviceLeg] { leg?.throttleOpened(on: reactor) }
    }

    func join(on reactor: Reactor) {
        // The line and the file can wait until the ends have met, who need the processors; a stream that is over soon has no file.
        isTold = false
        timer?.set(inMilliseconds: 50, on: reactor)
        // Last: a leg that spoke and went before the other came ends the stream in here.
        switch (deviceLeg, serviceLeg) {
        case (let device as WebSocketLeg, let service as WebSocketLeg):
            device.passesEmpty = passesEmpty
            WebSocketLeg.join(device, service, on: reactor)
        case (let device as BlindLeg, let service as BlindLeg): BlindLeg.join(device, service, on: reactor)
        default: handle(.ordered(.legMissing), on: reactor)
        }
    }

    func ended(_ leg: any HubLeg, _ end: LegEnd, on reactor: Reactor) {
        let side: Leg = leg === deviceLeg ? .device : .service
        if side == .device { bytesToService = leg.receivedBytes } else { bytesToDevice = leg.receivedBytes }
        let other = side == .device ? serviceLeg : deviceLeg
        switch end {
        case .closed(let code):
            if legEnd.isEmpty { legEnd = "\(side.rawValue) closed \(code.map { String($0) } ?? "without code")" }
            other?.close(code: code ?? WebSocketClose.normal, reason: "", on: reactor)
        case .broken(let text):
            if legEnd.isEmpty { legEnd = "\(side.rawValue): \(text)" }
            other?.close(code: WebSocketClose.internalError, reason: "WS disconnected", on: reactor)
        }
        handle(.legEnded(side), on: reactor)
        if session.state != .ended { if side == .device { deviceLeg = nil } else { serviceLeg = nil } }
    }

    func closeLegs(_ end: StreamSession.End, on reactor: Reactor) {
        let code = end == .rejected || end == .done ? WebSocketClose.normal : WebSocketClose.goingAway
        for leg in [deviceLeg, serviceLeg] { leg?.close(code: code, reason: end == .done ? "" : end.rawValue, on: reactor) }
        for connection in exchange(&switches, with: [:]).values { connection.abort(on: reactor) }
    }
}
