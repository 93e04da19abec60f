import Connections
import Console
import Dialing
import LinuxIO
import Wire

/// Who is told what the hub wants and whether it can be reached.
protocol HubSessionOwner: AnyObject {
    /// Requests can come now; after each reconnection again.
    func ready(via place: HostPort, on reactor: Reactor)
    /// An attempt failed; another one follows.
    /// - Parameter isRefusal: the hub answered, and does not want the device.
    func unreachable(_ reason: String, isRefusal: Bool, on reactor: Reactor)
    func requested(_ request: StreamRequest, over link: MQTTLink, on reactor: Reactor)
    /// What came over this link and was not answered yet can be answered no more.
    func lost(_ link: MQTTLink, on reactor: Reactor)
    /// Whether a request waits for its answer: the link is not changed meanwhile, if that can wait.
    var isAnswering: Bool { get }
}

/// The device's conversation with its hub: connects, subscribes, renews its token, and begins again whenever it ends.
///
///     waiting ─► reaching ─► CONNECT ─► SUBSCRIBE ─► ready
///        ▲           │          │           │          │
///        └───────────┴──────────┴───────────┴──────────┘ failure, loss
///
/// A new link is made ready beside a live one (for a new token, or new settings), which is left when the new one begins to speak.
final class HubSession: MQTTLinkOwner {
    /// What the conversation needs to know.
    struct Settings: Sendable {
        var connection: ConnectionString
        var client: ClientIdentity
        /// Tried in turn.
        var places: [HostPort]
        var access: HubAccess
        /// Nil: MQTT over WebSocket on the HTTPS port; else bare MQTT on this one.
        var mqttPort: UInt16?
        var tokenLifetimeSeconds: Int
        /// Why the hub will not take our certificate, where we know that ourselves.
        var ownFault: (@Sendable () -> String?)?
    }

    /// Shorter than a dial's usual patience: the kernel repeats its SYN ever more seldom, a new attempt sends one at once, and a path that
    /// is back should be used soon.
    private static let connectMilliseconds = 6000, reachMilliseconds = 15_000

    private var settings: Settings
    private weak var owner: (any HubSessionOwner)?
    private var backOff = BackOff()
    private var clock = HubClock()
    private var placeIndex = 0, failuresInRound = 0

    private var live: MQTTLink?
    private var rising: MQTTLink?
    private var dial: HubDial?
    private var upgrade: WebSocketUpgrade?
    private var question: HubExchangeTicket?
    private var hasAskedClock = false
    private var credential: HubCredential?
    private var isStopped = false
    private var retry: Timer?, renewal: Timer?
    private var renewalLimit: UInt64 = 0
    private var lastReason = ""

    init(_ settings: Settings, owner: any HubSessionOwner, on reactor: Reactor) {
        self.settings = settings
        self.owner = owner
        retry = Timer(on: reactor) { [weak self] _, reactor in self?.attempt(on: reactor) }
        renewal = Timer(on: reactor) { [weak self] _, reactor in self?.renewWhenQuiet(on: reactor) }
    }

    func start(on reactor: Reactor) { attempt(on: reactor) }

    /// Takes other settings; connects anew at the next quiet moment.
    func change(to settings: Settings, on reactor: Reactor) {
        if settings.connection.host != self.settings.connection.host { backOff = BackOff() }
        self.settings = settings
        placeIndex = 0
        giveUpAttempt(on: reactor)
        guard live != nil else { return attempt(on: reactor) }
        renewalLimit = reactor.now + 60_000
        renewal?.set(inMilliseconds: 0, on: reactor)
    }

    /// Says goodbye; nothing follows.
    func stop(on reactor: Reactor) {
        isStopped = true
        retry?.set(inMilliseconds: nil, on: reactor)
        renewal?.set(inMilliseconds: nil, on: reactor)
        giveUpAttempt(on: reactor)
        if let link = live.take() {
            link.leave(on: reactor)
            owner?.lost(link, on: reactor)
        }
    }

    var isReady: Bool { live != nil }

    private var place: HostPort { settings.places[placeIndex % settings.places.count] }

    // Reaching the hub

    private func attempt(on reactor: Reactor) {
        guard !isStopped, rising == nil, dial == nil, upgrade == nil, question == nil else { return }
        let place = place
        if let port = settings.mqttPort {
            dial = HubDial(
                to: HostPort(host: place.host, port: port), through: settings.access, spare: .none,
                connectMilliseconds: Self.connectMilliseconds, withinMilliseconds: Self.reachMilliseconds, on: reactor
            ) { [self] result, reactor in
                dial = nil
                switch consume result {
                case .success(let channel): rise(MQTTLink(channel), .bare, on: reactor)
                case .failure(let error): failed(error.description, on: reactor)
                }
            }
        } else {
            let url = StreamURL(host: place.host, port: place.port ?? 443, path: "/$iothub/websocket")
            upgrade = WebSocketUpgrade(
                to: url, through: settings.access, spare: .none, subprotocols: ["mqtt"], connectMilliseconds: Self.connectMilliseconds,
                withinMilliseconds: Self.reachMilliseconds, on: reactor
            ) { [self] result, reactor in
                upgrade = nil
                switch consume result {
                case .success(let upgraded):
                    if let seconds = upgraded.hubSeconds { note(hubSeconds: seconds, of: place) }
                    rise(MQTTLink(upgraded.take()), .webSocket, on: reactor)
                case .failure(let error): failed(error.description, on: reactor)
                }
            }
        }
    }

    private func note(hubSeconds: Int64, of place: HostPort) {
        guard let difference = clock.note(hubSeconds: hubSeconds, ownSeconds: Clock.unixSeconds) else { return }
        Log.warning(
            "clock-wrong",
            [
                "hub": place.description, "off-by-seconds": "\(-difference)",
                "remedy": "tokens follow the hub's clock: set this machine's clock",
            ])
    }

    private func rise(_ link: MQTTLink, _ framing: MQTTLink.Framing, on reactor: Reactor) {
        link.belong(to: self, framing: framing)
        rising = link
        link.start(on: reactor)
    }

    private func giveUpAttempt(on reactor: Reactor) {
        retry?.set(inMilliseconds: nil, on: reactor)
        dial.take()?.cancel(on: reactor)
        upgrade.take()?.cancel(on: reactor)
        question.take()?.cancel(on: reactor)
        rising.take()?.leave(on: reactor)
    }

    private func failed(_ reason: String, isRefusal: Bool = false, on reactor: Reactor) {
        rising.take()?.leave(on: reactor)
        guard !isStopped else { return }
        let last = place
        placeIndex = (placeIndex + 1) % settings.places.count
        failuresInRound += 1
        var wait = 0
        if failuresInRound >= settings.places.count {
            failuresInRound = 0
            wait = backOff.delay(after: isRefusal, at: Clock.milliseconds, jitter: .random(in: 0..<1))
        }
        Log.write(
            reason == lastReason ? .info : .warning, isRefusal ? "refused" : "unreachable",
            ["hub": last.description, "reason": reason, "retry-milliseconds": "\(wait)"])
        lastReason = reason
        retry?.set(inMilliseconds: wait, on: reactor)
        owner?.unreachable(reason, isRefusal: isRefusal, on: reactor)
    }

    // The conversation

    func opened(_ link: MQTTLink, on reactor: Reactor) {
        guard link === rising else { return link.leave(on: reactor) }
        if let old = live.take() {  // one identity has one connection: the hub would end the old one anyway
            old.leave(on: reactor)
            owner?.lost(old, on: reactor)
        }
        let credential = HubCredential(
            settings.connection, settings.client, lifetimeSeconds: settings.tokenLifetimeSeconds,
            now: clock.now(ownSeconds: Clock.unixSeconds))
        self.credential = credential
        // A clean session: whatever was subscribed before, the agent subscribes again, and it has no use for what it missed.
        let connect = MQTTConnect(
            clientID: settings.client.clientID, userName: credential.userName, password: credential.password.map { Array($0.utf8) },
            cleanSession: true, keepAliveSeconds: MQTTLink.keepAliveSeconds)
        if let error = link.send(.connect(connect), on: reactor) { failed("cannot say who we are: \(error)", on: reactor) }
    }

    func received(_ packet: MQTTPacket, from link: MQTTLink, on reactor: Reactor) {
        switch packet {
        case .connack(_, .accepted) where link === rising:
            let filters = [HubFilter.streamRequests, .streamAnswers].map {
                MQTTSubscription(filter: $0.text(for: settings.client), qos: .atMostOnce)
            }
            link.send(.subscribe(packetID: 1, subscriptions: filters), on: reactor)
        case .connack(_, let code) where link === rising: refused(code, on: reactor)
        case .suback(1, let granted) where link === rising:
            guard granted.count == 2, granted.allSatisfy({ $0 != nil }) else {
                return failed("the hub does not offer device streams", isRefusal: true, on: reactor)
            }
            settle(link, on: reactor)
        case .publish(let publish) where link === live:
            guard publish.topic.hasPrefix(StreamRequest.topicPrefix) else { return }
            do throws(StreamTopicError) {
                owner?.requested(try StreamRequest(topic: publish.topic), over: link, on: reactor)
            } catch {
                Log.info("request-malformed", ["reason": "\(error)"])
            }
        default: break
        }
    }

    private func settle(_ link: MQTTLink, on reactor: Reactor) {
        rising = nil
        live = link
        failuresInRound = 0
        hasAskedClock = false
        lastReason = ""
        backOff.connected(at: Clock.milliseconds)
        link.goLive(on: reactor)
        planRenewal(on: reactor)
        Log.info("connected", ["hub": place.description, "device": settings.client.clientID])
        owner?.ready(via: place, on: reactor)
    }

    private var whyRefused: String {
        "the hub does not accept this device's credentials, or the device is disabled" + (settings.ownFault?().map { ": \($0)" } ?? "")
    }

    private func refused(_ code: MQTTConnectCode, on reactor: Reactor) {
        switch code {
        case .notAuthorized, .badUserNameOrPassword:
            if settings.mqttPort != nil, !hasAskedClock { return askClock(on: reactor) }
            hasAskedClock = false
            failed(whyRefused, isRefusal: true, on: reactor)
        case .identifierRejected: failed("the hub does not accept this device's id", isRefusal: true, on: reactor)
        case .unacceptableProtocolVersion: failed("the hub does not speak MQTT 3.1.1", isRefusal: true, on: reactor)
        case .serverUnavailable: failed("the hub is not available now", on: reactor)
        case .accepted: break
        }
    }

    /// Bare MQTT does not tell the time; a refused token may only have the wrong one. Asks the hub over HTTPS, once in a row of refusals.
    private func askClock(on reactor: Reactor) {
        rising.take()?.leave(on: reactor)
        hasAskedClock = true
        let place = place, before = clock
        let exchange = HubExchange(with: place, through: settings.access)
        question = exchange.send(HubRequest("GET", "/"), answerWithinMilliseconds: 15_000, on: reactor) { [self] result, reactor in
            question = nil
            exchange.closeIdle(on: reactor)
            if case .success(let answer) = result, let seconds = answer.hubSeconds { note(hubSeconds: seconds, of: place) }
            guard clock == before else { return attempt(on: reactor) }
            failed(whyRefused, isRefusal: true, on: reactor)
        }
    }

    func lost(_ link: MQTTLink, _ reason: String, on reactor: Reactor) {
        if link === rising {
            rising = nil
            failed(reason, on: reactor)
        } else if link === live {
            live = nil
            renewal?.set(inMilliseconds: nil, on: reactor)
            Log.warning("disconnected", ["hub": place.description, "reason": reason])
            owner?.lost(link, on: reactor)
            guard !isStopped, rising == nil, dial == nil, upgrade == nil, question == nil else { return }
            lastReason = ""
            retry?.set(inMilliseconds: backOff.delay(after: false, at: Clock.milliseconds, jitter: .random(in: 0..<1)), on: reactor)
        }
    }

    // The token's end

    /// Some time before the token ends, the next link is made; longer tokens leave two minutes for it.
    private func planRenewal(on reactor: Reactor) {
        guard let end = credential?.renewableUntil else { return }
        let left = max(0, end - clock.now(ownSeconds: Clock.unixSeconds)), margin = min(120, Int64(settings.tokenLifetimeSeconds) / 6)
        renewalLimit = reactor.now + UInt64(left - min(left, margin / 4)) * 1000
        renewal?.set(inMilliseconds: Int(max(0, left - margin)) * 1000, on: reactor)
    }

    private func renewWhenQuiet(on reactor: Reactor) {
        guard !isStopped, live != nil else { return }
        if owner?.isAnswering == true, reactor.now < renewalLimit {
            renewal?.set(inMilliseconds: 1000, on: reactor)
        } else {
            Log.debug("renewing")
            attempt(on: reactor)
        }
    }
}
