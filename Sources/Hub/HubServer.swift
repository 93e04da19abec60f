import Blobs
import Connections
import Console
import LinuxIO
import Registry
import Serving
import Store
import Streams
import TLS
import Telemetry
import Wire

/// The running hub: what it does beside listening.
final class HubServer: ServedRole {
    let name = "hub"
    private let server: Server
    private let core: HubCore
    private let desks: Desks
    /// What shares the listeners.
    private let guest: (any ServedRole)?
    private let readConfiguration: () throws(Failure) -> HubConfiguration
    private var sweepTimer: Timer?

    init(
        registry: Registry, writer: GroupWriter, telemetry: TelemetryLog, configuration: HubConfiguration, server: Server,
        guest: Guest?, read: @escaping () throws(Failure) -> HubConfiguration
    ) throws(Failure) {
        let uploadKey: SymmetricKey
        do throws(RegistryError) { uploadKey = try registry.uploadKey() } catch { throw .store(error) }
        do throws(SystemError) {
            core = HubCore(
                server: server.core, neighbour: guest?.neighbour, registry: registry, writer: writer, telemetry: telemetry,
                queries: try QueryDesk(),
                telemetryReading: try Worker(threads: 2),
                uploads: try UploadDesk(BlobDirectory(registry.paths.uploads), key: uploadKey), configuration: configuration)
            desks = try Desks(core: core)
        } catch {
            throw .system("cannot start threads: \(error)")
        }
        self.server = server
        self.guest = guest?.role
        readConfiguration = read
        for (home, mailbox) in core.mailboxes.enumerated() {
            let core = self.core
            mailbox.send { reactor in reactor.resident = Desk(core: core, home: UInt8(truncatingIfNeeded: home)) }
        }
    }

    /// Serves until SIGTERM or SIGINT, on the calling thread.
    func run() throws(Failure) { try server.run(self) }

    var https: @Sendable (consuming Channel) -> Connection { { [core] in HTTPConnection($0, service: core) } }
    var mqtts: @Sendable (consuming Channel) -> Connection {
        { [core] in DeviceConnection($0, core: core, framing: .plain, authority: nil) }
    }

    func start(on reactor: Reactor) throws {
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
        try core.registry.perform(.setHubFacts(core.facts))
        core.uploads.prepare()
        sweepTimer = Timer(on: reactor) { timer, reactor in
            core.uploads.sweep()
            timer.set(inMilliseconds: 600_000, on: reactor)
        }
        sweepTimer?.set(inMilliseconds: 600_000, on: reactor)
        try guest?.start(on: reactor)
        let isUsed = core.server.usesKernelTLS
        Log.info("kernel-tls", ["used": isUsed ? "yes" : KernelSealing.isOffered ? "no" : "no, the kernel does not offer it"])
    }

    func load() throws(Failure) -> (ServingSettings, apply: () -> Void) {
        let configuration = try readConfiguration()
        let applyGuest = try guest?.load().apply
        return (
            configuration.serving,
            { [core] in
                core.take(configuration)
                applyGuest?()
            }
        )
    }

    var statusPath: String { core.paths.hubStatus }
    var status: [(name: String, value: JSONValue)] {
        [
            ("devices", .integer(Int64(core.directory.count))), ("streams", .integer(Int64(core.streams))),
            ("kernelTLS", .bool(core.server.usesKernelTLS)),
        ] + (guest?.status ?? [])
    }

    func look() {
        guest?.look()
        if let gone = try? core.registry.store.clearStaleReaders(), gone > 0 { Log.info("stale-readers", ["cleared": String(gone)]) }
    }

    func drain(on reactor: Reactor) {
        desks.stop()
        guest?.drain(on: reactor)
    }

    func hasten() {
        for mailbox in core.mailboxes { mailbox.send { Desk.of($0)?.endStreams(where: { _ in true }, .draining, on: $0) } }
    }

    func finish() {
        core.queries.finish()
        core.telemetryReading.finish()
        core.uploads.finish()
        desks.finish()
        guest?.finish()
    }
}
