import Console
import Dialing
import Glibc
import LinuxIO
import Wire

/// The agent at work, on one reactor: the conversation with the hub, the requests, the streams, and the signals.
final class Agent: HubSessionOwner, StreamOpeningOwner, ProvisionerOwner {
    private var settings: AgentSettings
    private var sealing: Sealing?
    private let reread: () throws(Failure) -> AgentSettings
    private var session: HubSession?
    private var provisioner: Provisioner?
    /// Nil until it is known where the device belongs.
    private var client: ClientIdentity?
    private var desk: RequestDesk?
    private var spares: SpareConnections?
    private var openings: [ObjectIdentifier: StreamOpening] = [:]
    /// Requests before the person, by the link on which their answer goes out.
    private var waiting: [(paper: WaitingRequest, request: StreamRequest, link: MQTTLink)] = []
    private var undecided: Set<ObjectIdentifier> = []
    private var hasNotified = false, isEnding = false
    /// Streams at the same time since memory was given back last; and when that happens.
    private var peak = 0
    private var tidying: Timer?
    private static let burst = 16, tidyMilliseconds = 3000

    /// - Parameter reread: makes the settings again, from the files as they are then.
    init(_ settings: AgentSettings, reread: @escaping () throws(Failure) -> AgentSettings) {
        self.settings = settings
        self.reread = reread
    }

    /// Runs until it is told to end.
    func run() throws(Failure) {
        try MainLoop.run(signalled: { [self] number, reactor in signalled(number, on: reactor) }) { reactor throws(Failure) in
            try start(on: reactor)
        }
    }

    private func start(on reactor: Reactor) throws(Failure) {
        if settings.allow.isEmpty {
            Output.warn(role: "agent", "nothing is allowed, every request will be rejected: name ports with --allow")
        }
        tidying = Timer(on: reactor) { [weak self] _, _ in self?.tidy() }
        try settle(on: reactor)
    }

    /// Begins to talk to the hub that the settings name, or looks for it.
    private func settle(on reactor: Reactor) throws(Failure) {
        if let hub = settings.hub { try join(hub, on: reactor) }
        provisioner.take()?.stop(on: reactor)
        guard let provisioning = settings.provisioning else { return }
        let provisioner = Provisioner(provisioning, owner: self, on: reactor)
        self.provisioner = provisioner
        provisioner.start(on: reactor)
    }

    /// Goes to this hub as this device; nothing changes when it throws.
    private func join(_ hub: HubSession.Settings, on reactor: Reactor) throws(Failure) {
        let sealing = try Sealing(settings.trust, for: hub.client), desk = settings.asks ? try Self.desk(settings, hub.client) : nil
        self.sealing = sealing
        self.desk = desk
        client = hub.client
        if let session { return session.change(to: hub, on: reactor) }
        let session = HubSession(hub, owner: self, on: reactor)
        self.session = session
        session.start(on: reactor)
    }

    func assigned(_ assignment: Assignment, on reactor: Reactor) {
        guard !isEnding, let hub = settings.hub(of: assignment) else { return }
        do throws(Failure) { try join(hub, on: reactor) } catch { Log.error("assignment-unusable", ["reason": error.what]) }
    }

    func unassigned(_ reason: String, on reactor: Reactor) { if session == nil { tell(reason) } }

    private static func desk(_ settings: AgentSettings, _ client: ClientIdentity) throws(Failure) -> RequestDesk {
        do throws(SystemError) { return try RequestDesk(in: settings.runDirectory, for: client) } catch {
            throw .errno(error.number, "\(settings.runDirectory)/requests", "name another place with --state")
        }
    }

    // Signals

    private func signalled(_ number: CInt, on reactor: Reactor) {
        switch number {
        case SIGHUP: reload(on: reactor)
        case SIGINT, SIGTERM: end(on: reactor)
        default: break
        }
    }

    private func reload(on reactor: Reactor) {
        guard !isEnding else { return }
        ServiceNotification.send("RELOADING=1\nMONOTONIC_USEC=\(Clock.milliseconds * 1000)")
        defer { ServiceNotification.send("READY=1") }
        do throws(Failure) {
            let old = exchange(&settings, with: try reread())
            do throws(Failure) { try settle(on: reactor) } catch {
                settings = old
                throw error
            }
            Log.notice("reloaded")
        } catch {
            Log.error("reload-failed", ["reason": error.what, "remedy": "the settings stay as they were"])
        }
    }

    /// Leaves the hub and lets running streams end; a second signal does not wait for them.
    private func end(on reactor: Reactor) {
        guard !isEnding else { return reactor.stop() }
        isEnding = true
        ServiceNotification.send("STOPPING=1")
        Log.notice("stopping", ["streams": "\(openings.count)"])
        for (paper, request, link) in exchange(&waiting, with: []) {
            paper.cancel(on: reactor)
            StreamOpening.reject(request, "the agent is shutting down", over: link, on: reactor)
        }
        for opening in Array(openings.values) { opening.reject("the agent is shutting down", on: reactor) }
        spares.take()?.stop(on: reactor)
        provisioner.take()?.stop(on: reactor)
        session?.stop(on: reactor)
        let limit = settings.drainSeconds * 1000
        Timer(on: reactor) { [self] _, reactor in
            for opening in Array(openings.values) { opening.breakOff(on: reactor) }
        }.set(inMilliseconds: limit, on: reactor)
        reactor.drain(withinMilliseconds: limit + 2000)  // the last words take a moment
    }

    // The hub

    func ready(via place: HostPort, on reactor: Reactor) {
        Process.releaseStartUpCode()
        provisioner?.hubTook(on: reactor)
        let text = "ready \(client?.clientID ?? "") via \(place)"
        Output.tell("iotstream agent: \(text)")
        ServiceNotification.send(hasNotified ? "STATUS=\(text)" : "READY=1\nSTATUS=\(text)")
        hasNotified = true
        spares.take()?.stop(on: reactor)
        if settings.warm > 0 { spares = SpareConnections(settings.warm, to: place, through: settings.access, on: reactor) }
    }

    /// An absent hub is no reason to hold up a machine's start.
    func unreachable(_ reason: String, isRefusal: Bool, on reactor: Reactor) {
        tell(reason)
        provisioner?.hubFailed(isRefusal: isRefusal, on: reactor)
    }

    private func tell(_ reason: String) {
        let text = Printable.oneLine(reason)
        ServiceNotification.send(hasNotified ? "STATUS=\(text)" : "READY=1\nSTATUS=\(text)")
        hasNotified = true
    }

    var isAnswering: Bool { !waiting.isEmpty || !undecided.isEmpty }

    func lost(_ link: MQTTLink, on reactor: Reactor) {
        spares.take()?.stop(on: reactor)  // if the path is gone they are dead, and do not know it yet
        for entry in waiting where entry.link === link { entry.paper.cancel(on: reactor) }
        waiting.removeAll { $0.link === link }
        for opening in Array(openings.values) { opening.linkLost(link, on: reactor) }
    }

    func requested(_ request: StreamRequest, over link: MQTTLink, on reactor: Reactor) {
        func reject(_ reason: String) {
            Log.info("stream-rejected", ["stream": request.rid, "name": request.streamName, "reason": reason])
            StreamOpening.reject(request, reason, over: link, on: reactor)
        }
        guard let target = settings.allow.target(for: request.streamName) else {
            let isPort = request.streamName.utf8.allSatisfy { ASCII.isDigit($0) }
            return reject("\(isPort ? "port " : "")\(request.streamName) is not allowed")
        }
        guard openings.count + waiting.count < settings.streamLimit else { return reject("too many streams") }
        guard let desk else { return open(request, to: target, over: link, on: reactor) }
        do throws(SystemError) {
            var id = ""
            let paper = try desk.ask(
                about: request.streamName, to: target, withinSeconds: settings.askSeconds, on: reactor
            ) { [self] verdict, reactor in
                waiting.removeAll { $0.paper.id == id }
                switch verdict {
                case .accepted: open(request, to: target, over: link, on: reactor)
                case .rejected(let reason): reject("rejected by the person at the device\(reason.map { ": \($0)" } ?? "")")
                case .timedOut: reject("the person at the device did not answer")
                }
            }
            id = paper.id
            waiting.append((paper, request, link))
            Output.tell("iotstream agent: request \(id): \(request.streamName) -> \(target): iotstream request accept \(id)")
        } catch {
            Log.error("ask-failed", ["reason": error.description])
            reject("the device cannot ask anybody")
        }
    }

    private func open(_ request: StreamRequest, to target: Target, over link: MQTTLink, on reactor: Reactor) {
        guard let sealing else { return }
        let opening = StreamOpening(
            request, to: target, over: link, through: settings.access, sealing: sealing, owner: self, on: reactor)
        openings[ObjectIdentifier(opening)] = opening
        peak = max(peak, openings.count)
        undecided.insert(ObjectIdentifier(opening))
        opening.start(on: reactor)
    }

    func decided(_ opening: StreamOpening) { undecided.remove(ObjectIdentifier(opening)) }

    func ended(_ opening: StreamOpening, on reactor: Reactor) {
        undecided.remove(ObjectIdentifier(opening))
        openings[ObjectIdentifier(opening)] = nil
        if openings.isEmpty, peak >= Self.burst { tidying?.set(inMilliseconds: Self.tidyMilliseconds, on: reactor) }
    }

    /// After a burst of streams the agent is as small again as before.
    private func tidy() {
        guard openings.isEmpty else { return }
        peak = 0
        Process.releaseFreeMemory()
        Process.releaseStartUpCode()
    }
}
