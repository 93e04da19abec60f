import Audit
import Connections
import Console
import Glibc
import LinuxIO
import TLS
import Wire

/// A role that serves: what it does beside listening, and whom it has deal with connections.
package protocol ServedRole: AnyObject {
    /// The role's word in messages: `hub`.
    var name: String { get }
    /// A file that is rewritten every few seconds, and what is in it beside listeners, names and connections.
    var statusPath: String { get }
    var status: [(name: String, value: JSONValue)] { get }
    /// Makes the owners of accepted connections; called on any reactor.
    var https: @Sendable (consuming Channel) -> Connection { get }
    var mqtts: @Sendable (consuming Channel) -> Connection { get }

    /// The listeners are bound and do not accept yet.
    func start(on reactor: Reactor) throws
    /// Reads the configuration anew.
    ///
    /// - Returns: the settings, and what makes the rest of the configuration hold.
    func load() throws(Failure) -> (ServingSettings, apply: () -> Void)
    /// Told every few seconds, on the main reactor.
    func look()
    /// The end was asked for, and connections are drained.
    func drain(on reactor: Reactor)
    /// The time for that is nearly over.
    func hasten()
    /// The reactors have ended.
    func finish()
}

/// Listeners, worker reactors and the main reactor with its signals, which a serving role has.
package final class Server {
    package let core: ServerCore
    private let role: String
    private let tickets: TLSTicketKeys
    private let threads: [LinuxIO.Thread]
    private let sockets: (https: [Bound], mqtts: [Bound])
    private let httpsAddresses: [SocketAddress], mqttsAddresses: [SocketAddress]
    private var timer: Timer?, gateTimer: Timer?
    /// What all handshakes together take is a small part of what the connections take.
    private let gate = HandshakeGate(most: 256)
    private var certificateStamps: [FileStamp?] = []

    /// Binds every address before anything is served; a failure leaves nothing running.
    ///
    /// - Parameters:
    ///   - context: made of `settings` with `tickets`.
    ///   - audit: its owner closes it once nothing more is to come.
    package init(
        _ role: String, _ settings: ServingSettings, _ context: TLSContext, _ tickets: TLSTicketKeys, audit: AuditLog
    ) throws(Failure) {
        self.role = role
        self.tickets = tickets
        let https = try settings.https.map { address throws(Failure) in try Self.bind(address, "https") }
        let mqtts = try settings.mqtts.map { address throws(Failure) in try Self.bind(address, "mqtts") }
        sockets = (https, mqtts)
        httpsAddresses = https.compactMap { SocketAddress.local(of: $0.raw) }
        mqttsAddresses = mqtts.compactMap { SocketAddress.local(of: $0.raw) }
        do throws(SystemError) {
            var mailboxes: [Mailbox] = [], threads: [LinuxIO.Thread] = []
            for _ in 0..<settings.workers {
                let (mailbox, thread) = try Reactor.start { _ in }
                mailboxes.append(mailbox)
                threads.append(thread)
            }
            self.threads = threads
            core = ServerCore(
                mailboxes: mailboxes, files: try Worker(), audit: audit, settings: settings, context: context,
                httpsPort: httpsAddresses.first?.port ?? 443)
        } catch {
            throw .system("cannot start threads: \(error)")
        }
    }

    /// A listening socket on its way to a reactor.
    private final class Bound: Sendable {
        let raw: CInt
        init(_ socket: consuming OwnedDescriptor) { raw = socket.release() }
    }

    private static func bind(_ address: ListenAddress, _ name: String) throws(Failure) -> Bound {
        let socket = try ServingSettings.resolve(address)
        do throws(SystemError) {
            return Bound(try Listener.open(at: socket))
        } catch {
            let remedy =
                switch error.number {
                case EADDRINUSE: "stop what listens there, or choose another with --\(name)"
                case EACCES: "a port below 1024 needs CAP_NET_BIND_SERVICE; choose another with --\(name)"
                default: "choose another with --\(name)"
                }
            throw .errno(error.number, "\(name) \(socket)", remedy)
        }
    }

    /// Serves until SIGTERM or SIGINT, on the calling thread.
    package func run(_ role: any ServedRole) throws(Failure) {
        var failure: Failure?
        do throws(Failure) {
            try MainLoop.run(
                signalled: { [self] signal, reactor in
                    switch signal {
                    case SIGHUP: reload(role)
                    case SIGTERM, SIGINT: stop(role, on: reactor)
                    default: break
                    }
                },
                { reactor throws(Failure) in
                    do {
                        try start(role, on: reactor)
                    } catch {
                        throw error as? Failure ?? .system("\(error)")
                    }
                })
        } catch {
            failure = error  // the workers end first
        }
        for mailbox in core.mailboxes { mailbox.send { $0.stop() } }
        for thread in threads { thread.join() }
        core.files.finish()
        role.finish()
        core.audit.record(AuditEvent(.service, "stopped"))
        Files.remove(role.statusPath)
        if let failure { throw failure }
    }

    private func start(_ role: any ServedRole, on reactor: Reactor) throws {
        try role.start(on: reactor)
        certificateStamps = stamps()
        for socket in sockets.https { try listen(socket, keepAlive: (30, 5), carriesStreams: true, on: reactor, role.https) }
        for socket in sockets.mqtts { try listen(socket, keepAlive: ServingLimits.deviceKeepAlive, on: reactor, role.mqtts) }
        timer = Timer(on: reactor) { [self] timer, reactor in
            writeStatus(of: role)
            role.look()
            reloadIfCertificateChanged(role)
            timer.set(inMilliseconds: 5000, on: reactor)
        }
        timer?.set(inMilliseconds: 5000, on: reactor)
        gateTimer = Timer(on: reactor) { [gate] timer, reactor in
            gate.look()
            timer.set(inMilliseconds: 1000, on: reactor)
        }
        gateTimer?.set(inMilliseconds: 1000, on: reactor)
        writeStatus(of: role)
        core.audit.record(AuditEvent(.service, "started"))
        let https = httpsAddresses.map(\.description).joined(separator: ","),
            mqtts = mqttsAddresses.map(\.description).joined(separator: ",")
        Output.tell("iotstream \(role.name): ready https=\(https) mqtts=\(mqtts)")
        ServiceNotification.send("READY=1")
        Process.releaseStartUpCode()
    }

    /// Accepts on the main reactor and hands connections to the workers in turn.
    ///
    /// - Parameters:
    ///   - keepAlive: seconds of silence until the kernel asks a peer, and between its questions.
    ///   - carriesStreams: whether legs of streams come here, whose TLS the kernel may take over.
    private func listen(
        _ socket: Bound, keepAlive: (idle: Int32, interval: Int32), carriesStreams: Bool = false, on reactor: Reactor,
        _ make: @escaping @Sendable (consuming Channel) -> Connection
    ) throws {
        let core = self.core, gate = self.gate
        var next = 0
        let socket = OwnedDescriptor(adopting: socket.raw)
        socket.keepAlive(idleSeconds: keepAlive.idle, intervalSeconds: keepAlive.interval)
        _ = try Listener(socket, on: reactor) { socket, peer, _ in
            guard let place = core.place() else { return }
            let transport = Transport(awaiting: socket, from: peer, core.context, kernelMaySeal: carriesStreams && core.usesKernelTLS)
            let channel = Channel(transport, companion: place, gate: gate)
            next = (next + 1) % core.mailboxes.count
            core.mailboxes[next].adopt(channel) { channel, _ in make(channel) }
        }
    }

    // Reload

    private func reload(_ role: any ServedRole) {
        ServiceNotification.send("RELOADING=1")
        do throws(Failure) {
            let (settings, apply) = try role.load()
            let context = try settings.makeContext(tickets), old = core.settings
            if (old.https, old.mqtts) != (settings.https, settings.mqtts) || old.workers != settings.workers {
                Log.warning("restart-needed", ["for": "https, mqtts or workers"])
            }
            core.replace(settings, context)
            apply()
            certificateStamps = stamps()
            Log.notice("reloaded")
        } catch {
            Log.error("reload-failed", ["reason": error.what, "kept": "what was there before"])
            certificateStamps = stamps()  // reported once, and tried again when a file changes
        }
        ServiceNotification.send("READY=1")
    }

    private func stamps() -> [FileStamp?] {
        let settings = core.settings
        return [settings.certificatePath, settings.keyPath].map { $0.flatMap { Files.stamp($0) } }
    }

    private func reloadIfCertificateChanged(_ role: any ServedRole) {
        let current = stamps()
        guard current != certificateStamps else { return }
        certificateStamps = current  // a broken one is reported once, and tried again when it changes
        reload(role)
    }

    // Status and the end

    private func writeStatus(of role: any ServedRole) {
        func texts(_ items: [some CustomStringConvertible]) -> JSONValue { .array(items.map { .string($0.description) }) }
        var document = JSONObject()
        document["pid"] = .integer(Int64(getpid()))
        document["since"] = .string(core.startedAt.description)
        document["names"] = texts(core.names)
        document["https"] = texts(httpsAddresses)
        document["mqtts"] = texts(mqttsAddresses)
        document["connections"] = .integer(Int64(core.connections))
        for (name, value) in role.status { document[name] = value }
        let path = role.statusPath, text = JSONValue.object(document).bytes(style: .pretty) + [10]
        core.files.submit { try? Files.replace(path, with: text, isDurable: false) }
    }

    private func stop(_ role: any ServedRole, on reactor: Reactor) {
        guard !reactor.isDraining else { return reactor.stop() }  // a second signal does not wait
        ServiceNotification.send("STOPPING=1")
        let seconds = core.settings.drainSeconds, milliseconds = seconds * 1000
        role.drain(on: reactor)
        Log.notice("draining", ["seconds": String(seconds), "connections": String(core.connections)])
        reactor.drain(withinMilliseconds: milliseconds)
        for mailbox in core.mailboxes { mailbox.send { $0.drain(withinMilliseconds: milliseconds) } }
        // The main reactor goes on until the workers are done, or until the time is over.
        let core = self.core
        let started = reactor.now
        _ = Drain(on: reactor) { reactor in
            if core.connections == 0 || reactor.now - started >= UInt64(milliseconds) { reactor.stop() }
            if reactor.now - started >= UInt64(max(0, milliseconds - 1500)) { role.hasten() }
        }
    }
}

/// Keeps the main reactor alive while the workers drain, and looks at them ten times a second.
private final class Drain: Source {
    private let look: (Reactor) -> Void

    init(on reactor: Reactor, _ look: @escaping (Reactor) -> Void) {
        self.look = look
        super.init()
        reactor.add(self)
        reactor.setDeadline(of: self, inMilliseconds: 0)
    }

    override func deadlinePassed(on reactor: Reactor) {
        reactor.setDeadline(of: self, inMilliseconds: 100)
        look(reactor)
    }
}
