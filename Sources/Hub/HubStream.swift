import Audit
import Connections
import Console
import LinuxIO
import Registry
import Relay
import Serving
import Streams
import Wire

/// One stream at the hub: its state machine, its tokens, the request that opened it, its legs. Lives on one reactor.
final class HubStream: LegOwner {
    /// What the service asked for.
    struct Order: Sendable {
        var client: ClientIdentity
        var name: String
        var patience: StreamSession.Patience
        /// Ways that our own `forward` offers, those that we know; empty for others.
        var offer: [StreamWay]
        /// Host and port by which the service reached the hub.
        var serviceAuthority: HostPort
        var servicePeer: String
        var policy: String
        /// The service's token, for another look when keys change, and the identity's generation.
        var authorization: String?
        var path: String
        var generationID: String
    }

    enum Admission { case open, refused(status: Int) }

    let identifier: StreamIdentifier
    let order: Order
    let openedAt = Timestamp.now
    private unowned let desk: Desk
    private weak var requester: HTTPConnection?
    private let serial: Int  // of its request
    private var session: StreamSession
    private let deviceToken = StreamToken(), serviceToken = StreamToken()
    private var deviceLeg: (any HubLeg)?, serviceLeg: (any HubLeg)?
    /// What the device's leg was asked to be; it may come before its answer.
    private var deviceUpgrade: LegUpgrade?
    private var switches: [Leg: BlindSwitch] = [:]
    /// From the first leg on, while any rate is limited.
    private var throttle: Throttle?
    private var timer: Timer?
    private var presence: Directory.Presence?
    private var waitNumber: UInt64?
    private var chosen: StreamWay?
    private var devicePeer = ""
    private var legEnd = ""
    private var isListed = false, isTold = true
    private var listedBytes: (UInt64, UInt64) = (0, 0)
    private(set) var bytesToDevice: UInt64 = 0, bytesToService: UInt64 = 0

    /// Counts itself in at the desk; the caller has asked the limits.
    init(_ order: Order, requester: HTTPConnection, desk: Desk, on reactor: Reactor) {
        identifier = StreamIdentifier(home: desk.home)
        self.order = order
        self.requester = requester
        serial = requester.serial
        self.desk = desk
        session = StreamSession(order.patience)
        timer = Timer(on: reactor) { [weak self] _, reactor in self?.timeout(on: reactor) }
        desk.add(self)
        requester.wait { [weak self] reactor in
            self?.requester = nil
            self?.handle(.requesterGone, on: reactor)
        }
    }

    var client: ClientIdentity { order.client }
    var state: StreamSession.State { session.state }

    func begin(on reactor: Reactor) {
        record("asked")
        let present = desk.core.directory[client]
        let isReady = present?.interests.contains(.streams) == true
        if isReady { presence = present }
        perform(session.begin(isDeviceReady: isReady, at: reactor.now), on: reactor)
        guard session.state == .waiting else { return }
        let identifier = self.identifier, mailbox = desk.mailbox
        waitNumber = desk.core.directory.when(.streams, of: client) {
            mailbox.send { reactor in Desk.of(reactor)?.stream(identifier)?.deviceReady(on: reactor) }
        }
    }

    private func deviceReady(on reactor: Reactor) {
        waitNumber = nil
        guard session.state == .waiting else { return }
        presence = desk.core.directory[client]
        handle(.deviceReady, on: reactor)
    }

    func handle(_ event: StreamSession.Event, on reactor: Reactor) {
        perform(session.handle(event, at: reactor.now), on: reactor)
    }

    func answered(isAccepted: Bool, chosen: String?, reason: String?, on reactor: Reactor) {
        if session.state == .pending, isAccepted {
            self.chosen = StreamWay.list(chosen).first { order.offer.contains($0) }
            if deviceUpgrade?.fits(self.chosen) == false {
                legEnd = "device: its leg is not of the kind that it chose"
                return handle(.ordered(.legMissing), on: reactor)
            }
        }
        handle(.answered(isAccepted: isAccepted, reason: reason), on: reactor)
    }

    /// Whether its device came in by a certificate under this authority.
    func isLetIn(byAuthority name: String) -> Bool {
        if case .authority(name, _)? = presence?.method { true } else { false }
    }

    /// Something about the device or the policy has changed: may the stream go on?
    func checkRights(on reactor: Reactor) {
        let registry = desk.core.registry
        do throws(RegistryError) {
            let identity = try registry.usableIdentity(client)
            guard identity?.generationID == order.generationID else { return handle(.ordered(.deviceRefused), on: reactor) }
            if case .authority(let name, let thumbprint)? = presence?.method,
                try !registry.stillTrusts(authority: name, thumbprint: thumbprint)
            {
                return handle(.ordered(.deviceRefused), on: reactor)
            }
        } catch {
            if error.isAbsence { handle(.ordered(.deviceRefused), on: reactor) }
            return
        }
        do throws(Refusal) {
            _ = try registry.authenticateService(
                authorization: order.authorization, needing: .serviceConnect, path: order.path, hosts: desk.core.names,
                switches: desk.core.switches,
                now: openedAt.seconds)
        } catch {
            if case .store = error { return }
            handle(.ordered(.policyRemoved), on: reactor)
        }
    }

    private func timeout(on reactor: Reactor) {
        if session.state == .running {
            list()
            timer?.set(inMilliseconds: 10_000, on: reactor)
        } else {
            handle(.tick, on: reactor)
        }
    }

    private func perform(_ actions: [StreamSession.Action], on reactor: Reactor) {
        for action in actions {
            switch action {
            case .sendRequest: sendRequest(on: reactor)
            case .answer(let verdict):
                record("answered", verdict.audited)
                answer(verdict, on: reactor)
            case .join: join(on: reactor)
            case .closeLegs(let end): closeLegs(end, on: reactor)
            case .forget(let end): forget(end, on: reactor)
            }
        }
        if let deadline = session.deadline {
            timer?.set(inMilliseconds: Int(deadline - min(deadline, reactor.now)), on: reactor)
        }
    }

    private func answer(_ verdict: StreamSession.Verdict, on reactor: Reactor) {
        let answer = HTTPAnswer(verdict, acceptance: verdict == .accepted ? acceptance() : HTTPHeaders(), patience: order.patience)
        requester?.answer(answer, to: serial, on: reactor)
    }

    private func sendRequest(on reactor: Reactor) {
        guard let presence else { return handle(.deviceLost, on: reactor) }
        let identifier = self.identifier, home = desk.mailbox, client = self.client, name = order.name
        let offer = order.offer.isEmpty ? nil : StreamWay.text(order.offer)
        let token = deviceToken.text, path = LegPath.path(hub: desk.core.shortName, client: client, stream: identifier, leg: .device)
        presence.mailbox.send { reactor in
            let device = reactor.source(presence.token) as? DeviceConnection
            let isSent =
                device?.requestStream(identifier, home: home, name: name, path: path, token: token, offer: offer, on: reactor) ?? false
            if !isSent { home.send { reactor in Desk.of(reactor)?.stream(identifier)?.handle(.deviceLost, on: reactor) } }
        }
    }

    // Answers to the service

    /// The header fields of an accepted stream.
    func acceptance() -> HTTPHeaders {
        let authority = order.serviceAuthority
        let path = LegPath.path(hub: desk.core.shortName, client: client, stream: identifier, leg: .service)
        var headers: HTTPHeaders = [
            "iothub-streaming-is-accepted": "True",
            "iothub-streaming-url": StreamURL(host: authority.host, port: authority.port ?? 443, path: path).description,
            "iothub-streaming-auth-token": serviceToken.text,
        ]
        if let chosen { headers.add("iotstream-chosen", chosen.rawValue) }
        return headers
    }

    // Legs

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

    private func join(on reactor: Reactor) {
        // The line and the file can wait until the ends have met; a stream that is over soon has no file.
        isTold = false
        Leisure(on: reactor) { [weak self] _ in self?.tellOpened() }
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

    private func tellOpened() {
        guard !exchange(&isTold, with: true) else { return }
        record(
            "joined", .ok,
            ["mode": .string(mode), "endToEnd": .bool(chosen?.isEndToEnd == true), "devicePeer": .string(devicePeer)])
        Log.info(
            "stream-opened",
            [
                "stream": identifier.text, "device": client.clientID, "name": order.name, "policy": order.policy,
                "peer": order.servicePeer, "mode": mode, "end-to-end": chosen?.isEndToEnd == true ? "yes" : "no",
            ])
    }

    /// Puts a line about the stream into the audit log.
    private func record(_ action: String, _ outcome: AuditEvent.Outcome = .ok, _ detail: KeyValuePairs<String, JSONValue> = [:]) {
        var event = AuditEvent(
            .stream, action, outcome, actor: "policy:\(order.policy)", subject: client.auditName, from: order.servicePeer, protocol: "https"
        )
        event.detail["stream"] = .string(identifier.text)
        event.detail["name"] = .string(order.name)
        for (name, value) in detail where value != "" { event.detail[name] = value }
        desk.core.audit.record(event)
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

    private func closeLegs(_ end: StreamSession.End, on reactor: Reactor) {
        let code = end == .rejected || end == .done ? WebSocketClose.normal : WebSocketClose.goingAway
        for leg in [deviceLeg, serviceLeg] { leg?.close(code: code, reason: end == .done ? "" : end.rawValue, on: reactor) }
        for connection in exchange(&switches, with: [:]).values { connection.abort(on: reactor) }
    }

    private func forget(_ end: StreamSession.End, on reactor: Reactor) {
        if let waitNumber { desk.core.directory.cancelWaiting(client, waitNumber) }
        if let presence {
            let identifier = self.identifier
            presence.mailbox.send { reactor in (reactor.source(presence.token) as? DeviceConnection)?.forgetStream(identifier) }
        }
        if let timer { reactor.remove(timer) }
        timer = nil
        throttle?.end(on: reactor)
        throttle = nil
        bytesToService = max(bytesToService, deviceLeg?.receivedBytes ?? 0)
        bytesToDevice = max(bytesToDevice, serviceLeg?.receivedBytes ?? 0)
        tellOpened()
        Log.info(
            "stream-closed",
            [
                "stream": identifier.text, "device": client.clientID, "name": order.name, "reason": end.rawValue, "detail": legEnd,
                "to-device": String(bytesToDevice), "to-service": String(bytesToService),
            ])
        let lasted = Int64(clamping: (Timestamp.now.ticks - openedAt.ticks) / 10_000)
        record(
            "ended", .ok,
            [
                "cause": .string(end.rawValue), "words": .string(legEnd), "bytesToDevice": .integer(Int64(clamping: bytesToDevice)),
                "bytesToService": .integer(Int64(clamping: bytesToService)), "milliseconds": .integer(lasted),
            ])
        unlist()
        desk.core.allotments.close(device: client.deviceID)
        desk.remove(self)
    }

    // Listing

    /// The stream as `stream list`, `GET /streams` and the file `RUN/streams/ID` show it.
    var document: JSONValue {
        [
            "id": .string(identifier.text), "deviceId": .string(client.deviceID),
            "moduleId": client.moduleID.map { .string($0) } ?? .null, "name": .string(order.name), "state": .string(session.state.rawValue),
            "mode": isDecided ? .string(mode) : .null, "endToEnd": isDecided ? .bool(chosen?.isEndToEnd == true) : .null,
            "since": .string(openedAt.description),
            "bytesToDevice": .integer(Int64(clamping: serviceLeg?.receivedBytes ?? bytesToDevice)),
            "bytesToService": .integer(Int64(clamping: deviceLeg?.receivedBytes ?? bytesToService)),
            "servicePeer": .string(order.servicePeer), "devicePeer": .string(devicePeer),
        ]
    }

    /// Whether it is known how the stream is carried.
    private var isDecided: Bool { session.state != .waiting && session.state != .pending }
    private var mode: String { chosen == .blind ? "blind" : "websocket" }

    private var path: String { "\(desk.core.paths.streams)/\(identifier)" }

    /// Writes the stream's file; again when bytes have moved since.
    private func list() {
        let bytes = (serviceLeg?.receivedBytes ?? 0, deviceLeg?.receivedBytes ?? 0)
        guard !isListed || bytes != listedBytes else { return }
        (isListed, listedBytes) = (true, bytes)
        let path = self.path, text = document.bytes(style: .compact) + [10]
        desk.core.files.submit { try? Files.replace(path, with: text, isDurable: false) }
    }

    private func unlist() {
        guard isListed else { return }
        isListed = false
        let path = self.path
        desk.core.files.submit { Files.remove(path) }
    }
}

extension StreamSession.Verdict {
    /// What the audit log says of it.
    fileprivate var audited: AuditEvent.Outcome {
        switch self {
        case .accepted: .ok
        case .rejected(let reason): .refused("rejected", reason ?? "")
        case .deviceNotOnline: .failed("device-not-online")
        case .noAnswer: .failed("no-answer")
        case .deviceGone: .failed("device-gone")
        }
    }
}
