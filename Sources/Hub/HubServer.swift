import Blobs
import Connections
import Console
import Glibc
import LinuxIO
import Registry
import Serving
import Store
import Streams
import TLS
import Telemetry
import Wire

/// The running hub: worker reactors with their listeners, and the main reactor with signals, bell and files.
final class HubServer {
    private let core: HubCore
    private let desks: Desks
    private let threads: [LinuxIO.Thread]
    private var httpsAddresses: [SocketAddress] = [], mqttsAddresses: [SocketAddress] = []
    private var statusTimer: Timer?, sweepTimer: Timer?
    private var certificateStamps: [FileStamp?] = []

    /// Binds every address before anything is served; a failure leaves nothing running.
    init(
        registry: Registry, writer: GroupWriter, telemetry: TelemetryLog, configuration: HubConfiguration, context: TLSContext,
        tickets: TLSTicketKeys
    ) throws(Failure) {
        let https = try configuration.https.map { address throws(Failure) in try Self.bind(address, "https") }
        let mqtts = try configuration.mqtts.map { address throws(Failure) in try Self.bind(address, "mqtts") }
        let uploadKey: SymmetricKey
        do throws(RegistryError) { uploadKey = try registry.uploadKey() } catch { throw .store(error) }
        do throws(SystemError) {
            var mailboxes: [Mailbox] = [], threads: [LinuxIO.Thread] = []
            for _ in 0..<configuration.workers {
                let (mailbox, thread) = try Reactor.start { _ in }
                mailboxes.append(mailbox)
                threads.append(thread)
            }
            self.threads = threads
            httpsAddresses = https.compactMap { SocketAddress.local(of: $0.raw) }
            mqttsAddresses = mqtts.compactMap { SocketAddress.local(of: $0.raw) }
            core = HubCore(
                registry: registry, writer: writer, telemetry: telemetry, files: try Worker(), queries: try QueryDesk(),
                telemetryReading: try Worker(threads: 2),
                uploads: try UploadDesk(BlobDirectory(registry.paths.uploads), key: uploadKey), mailboxes: mailboxes,
                configuration: configuration, context: context, httpsPort: httpsAddresses.first?.port ?? 443)
            desks = try Desks(core: core)
        } catch {
            throw .system("cannot start threads: \(error)")
        }
        for (home, mailbox) in core.mailboxes.enumerated() {
            let core = self.core
            mailbox.send { reactor in reactor.resident = Desk(core: core, home: UInt8(truncatingIfNeeded: home)) }
        }
        sockets = (https, mqtts)
    }

    /// A listening socket on its way to a reactor.
    private final class Bound: Sendable {
        let raw: CInt
        init(_ socket: consuming OwnedDescriptor) { raw = socket.release() }
    }

    private let sockets: (https: [Bound], mqtts: [Bound])

    private static func bind(_ address: ListenAddress, _ name: String) throws(Failure) -> Bound {
        let socket = try HubRole.resolve(address)
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
    func run(reload: @escaping () throws(Failure) -> (HubConfiguration, TLSContext)) throws(Failure) {
        var failure: Failure?
        do throws(Failure) {
            try MainLoop.run(
                signalled: { [self] signal, reactor in
                    switch signal {
                    case SIGHUP: self.reload(reload)
                    case SIGTERM, SIGINT: stop(on: reactor)
                    default: break
                    }
                },
                { reactor throws(Failure) in
                    do {
                        try start(on: reactor, reload: reload)
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
        core.queries.finish()
        core.telemetryReading.finish()
        core.uploads.finish()
        desks.finish()
        Files.remove(core.paths.hubStatus)
        if let failure { throw failure }
    }

    private func start(on reactor: Reactor, reload: @escaping () throws(Failure) -> (HubConfiguration, TLSContext)) throws {
        let core = self.core
        _ = MessageSweeper(core: core, on: reactor)
        _ = try ChangeFollower(core: core, desks: desks, on: reactor)
        let watch = try DirectoryWatch(on: reactor) { path, change, _ in
            guard change == .removed, let name = path.split(separator: "/").last, let stream = StreamIdentifier(String(name)),
                stream.home < core.mailboxes.count
            else { return }
            core.mailboxes[stream.home].send { reactor in
                Desk.of(reactor)?.stream(stream)?.handle(.ordered(.closed), on: reactor)
            }
        }
        try watch.watch(core.paths.streams)
        let facts = HubFacts(names: core.names, httpsPort: core.httpsPort)
        try core.registry.perform(.setHubFacts(facts))
        certificateStamps = stamps()
        for socket in sockets.https { try listen(socket, on: reactor) { HTTPConnection($0, service: core) } }
        for socket in sockets.mqtts {
            try listen(socket, on: reactor) { DeviceConnection($0, core: core, framing: .plain, authority: nil) }
        }
        statusTimer = Timer(on: reactor) { [self] timer, reactor in
            writeStatus()
            reloadIfCertificateChanged(reload)
            timer.set(inMilliseconds: 5000, on: reactor)
        }
        statusTimer?.set(inMilliseconds: 5000, on: reactor)
        core.uploads.prepare()
        sweepTimer = Timer(on: reactor) { timer, reactor in
            core.uploads.sweep()
            timer.set(inMilliseconds: 600_000, on: reactor)
        }
        sweepTimer?.set(inMilliseconds: 600_000, on: reactor)
        writeStatus()
        let https = httpsAddresses.map(\.description).joined(separator: ","),
            mqtts = mqttsAddresses.map(\.description).joined(separator: ",")
        Output.tell("iotstream hub: ready https=\(https) mqtts=\(mqtts)")
        ServiceNotification.send("READY=1")
        Process.releaseStartUpCode()
    }

    /// Accepts on the main reactor and hands connections to the workers in turn.
    private func listen(_ socket: Bound, on reactor: Reactor, _ make: @escaping @Sendable (consuming Channel) -> Connection) throws {
        let core = self.core
        var next = 0
        _ = try Listener(OwnedDescriptor(adopting: socket.raw), on: reactor) { socket, _, _ in
            guard let place = core.place(), let transport = try? Transport(accepting: socket, core.context) else { return }
            let channel = Channel(transport, companion: place)
            next = (next + 1) % core.mailboxes.count
            core.mailboxes[next].adopt(channel) { channel, _ in make(channel) }
        }
    }

    // Reload

    private func reload(_ load: () throws(Failure) -> (HubConfiguration, TLSContext)) {
        ServiceNotification.send("RELOADING=1")
        do throws(Failure) {
            let (configuration, context) = try load()
            let old = core.configuration
            if (old.https, old.mqtts) != (configuration.https, configuration.mqtts) || old.workers != configuration.workers {
                Log.warning("restart-needed", ["for": "https, mqtts or workers"])
            }
            core.replace(configuration: configuration, context: context)
            certificateStamps = stamps()
            Log.notice("reloaded")
        } catch {
            Log.error("reload-failed", ["reason": error.what, "kept": "what was there before"])
            certificateStamps = stamps()  // reported once, and tried again when a file changes
        }
        ServiceNotification.send("READY=1")
    }

    private func stamps() -> [FileStamp?] {
        let configuration = core.configuration
        return [configuration.certificatePath, configuration.keyPath].map { $0.flatMap { Files.stamp($0) } }
    }

    private func reloadIfCertificateChanged(_ load: () throws(Failure) -> (HubConfiguration, TLSContext)) {
        let current = stamps()
        guard current != certificateStamps else { return }
        certificateStamps = current  // a broken one is reported once, and tried again when it changes
        reload(load)
    }

    // Status and the end

    private func writeStatus() {
        let document: JSONValue = [
            "pid": .integer(Int64(getpid())), "since": .string(core.startedAt.description),
            "names": .array(core.names.map { .string($0) }), "https": .array(httpsAddresses.map { .string($0.description) }),
            "mqtts": .array(mqttsAddresses.map { .string($0.description) }), "connections": .integer(Int64(core.connections)),
            "devices": .integer(Int64(core.directory.count)), "streams": .integer(Int64(core.streams)),
        ]
        let path = core.paths.hubStatus, text = document.bytes(style: .pretty) + [10]
        core.files.submit { try? Files.replace(path, with: text, isDurable: false) }
        if let gone = try? core.registry.store.clearStaleReaders(), gone > 0 { Log.info("stale-readers", ["cleared": String(gone)]) }
    }

    private func stop(on reactor: Reactor) {
        guard !reactor.isDraining else { return reactor.stop() }  // a second signal does not wait
        ServiceNotification.send("STOPPING=1")
        desks.stop()
        let milliseconds = core.configuration.drainSeconds * 1000
        Log.notice("draining", ["seconds": String(core.configuration.drainSeconds), "streams": String(core.streams)])
        reactor.drain(withinMilliseconds: milliseconds)
        for mailbox in core.mailboxes { mailbox.send { $0.drain(withinMilliseconds: milliseconds) } }
        // The main reactor goes on until the workers are done, or until the time is over.
        let core = self.core
        let started = reactor.now
        _ = Drain(on: reactor) { reactor in
            if core.connections == 0 || reactor.now - started >= UInt64(milliseconds) { reactor.stop() }
            if reactor.now - started >= UInt64(max(0, milliseconds - 1500)) {
                for mailbox in core.mailboxes { mailbox.send { Desk.of($0)?.endStreams(where: { _ in true }, .draining, on: $0) } }
            }
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
