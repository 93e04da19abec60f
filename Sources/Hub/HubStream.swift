import Connections
import LinuxIO
import Registry
import Relay
import Serving
import Streams
import Wire

/// One stream at the hub: its state machine, its tokens, the request that opened it. Lives on one reactor.
///
/// Its parts: the legs that it joins (`+Legs`), and what log, audit log and listing have of it (`+Telling`).
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
        /// The connection of the request is to become the service's leg, should the device choose a blind stream.
        var becomesLeg = false
    }

    enum Admission { case open, refused(status: Int) }

    let identifier: StreamIdentifier
    let order: Order
    let openedAt = Timestamp.now
    unowned let desk: Desk
    private weak var requester: HTTPConnection?
    private let serial: Int  // of its request
    private(set) var session: StreamSession
    let deviceToken = StreamToken(), serviceToken = StreamToken()
    var deviceLeg: (any HubLeg)?, serviceLeg: (any HubLeg)?
    /// What the device's leg was asked to be; it may come before its answer.
    var deviceUpgrade: LegUpgrade?
    var switches: [Leg: BlindSwitch] = [:]
    /// From the first leg on, while any rate is limited.
    var throttle: Throttle?
    var timer: Timer?
    private var presence: Directory.Presence?
    private var waitNumber: UInt64?
    private(set) var chosen: StreamWay?
    var devicePeer = ""
    /// How the first leg ended, for the log.
    var legEnd = ""
    /// Whether the log has the stream's opening, or need not have it yet.
    var isTold = true
    var bytesToDevice: UInt64 = 0, bytesToService: UInt64 = 0
    /// What the stream's file said last of them, to the device and to the service; nil while there is no file.
    var listedBytes: (UInt64, UInt64)?

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
        requester.wait(mayUpgrade: order.becomesLeg, on: reactor) { [weak self] reactor in
            self?.requester = nil
            self?.handle(.requesterGone, on: reactor)
        }
    }

    var client: ClientIdentity { order.client }
    var state: StreamSession.State { session.state }

    func begin(on reactor: Reactor) {
        defer { record("asked") }  // the device is waited for
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
            tellOpened()
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
        if verdict == .accepted, chosen == .blind, order.becomesLeg, let requester {
            let identifier = self.identifier
            let isTaken = requester.upgrade(serial, on: reactor) { channel, reactor in
                guard let stream = Desk.of(reactor)?.stream(identifier) else { return Connection(channel) }
                return stream.takeRequester(channel, on: reactor)
            }
            if isTaken { return }
        }
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
        tellClosed(end)
        unlist()
        desk.core.allotments.close(device: client.deviceID)
        desk.remove(self)
    }
}
