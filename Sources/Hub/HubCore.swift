import Console
import LinuxIO
import Registry
import Serving
import Store
import Synchronization
import Telemetry
import Wire

/// What the hub's reactors share. Everything in it is immutable or behind a lock that is held for a look-up only; nothing of
/// it is touched while bytes of streams flow.
final class HubCore: Sendable {
    let server: ServerCore
    /// What shares the listeners.
    let neighbour: (any Neighbour)?
    let registry: Registry
    let writer: GroupWriter
    let telemetry: TelemetryLog
    let paths: RuntimePaths
    let queries: QueryDesk
    /// Reading of the telemetry log.
    let telemetryReading: Worker
    /// Files of devices.
    let uploads: UploadDesk
    let directory = Directory()
    let locks = MessageLocks()
    let feedback = BatchLocks(), fileNotices = BatchLocks()
    private let settings: Mutex<HubConfiguration>
    let allotments: Allotments
    let throttles: Throttles
    /// Hears of what is in no change log: identities that have reported properties, have come, or have gone. From any thread.
    private let stirring = Mutex(Stirring())
    /// A function that stands in a Mutex by itself is wrapped once more each time that it is taken out, and slower for ever.
    private struct Stirring { var hear: (@Sendable (ClientIdentity) -> Void)? }

    init(
        server: ServerCore, neighbour: (any Neighbour)?, registry: Registry, writer: GroupWriter, telemetry: TelemetryLog,
        queries: QueryDesk, telemetryReading: Worker,
        uploads: UploadDesk, configuration: HubConfiguration
    ) {
        self.server = server
        self.neighbour = neighbour
        self.registry = registry
        self.writer = writer
        self.telemetry = telemetry
        self.paths = registry.paths
        self.queries = queries
        self.telemetryReading = telemetryReading
        self.uploads = uploads
        settings = Mutex(configuration)
        allotments = Allotments(configuration.limits)
        throttles = Throttles(configuration.limits.throttles)
    }

    func whenStirred(_ hear: @escaping @Sendable (ClientIdentity) -> Void) { stirring.withLock { $0.hear = hear } }
    func stirred(_ name: ClientIdentity) { stirring.withLock { $0.hear }?(name) }

    var limits: HubLimits { settings.withLock { $0.limits } }
    /// Ways of getting in that the configuration refuses.
    var switches: AttestationSwitches { settings.withLock { $0.switches } }

    /// The worker reactors, in order; a stream's home is an index here.
    var mailboxes: [Mailbox] { server.mailboxes }
    /// Work with files that may block.
    var files: Worker { server.files }
    var names: [String] { server.names }
    /// Port of the first HTTPS listener, as bound.
    var httpsPort: UInt16 { server.httpsPort }
    /// Whether `host` (without port) is a name of this hub, compared without case.
    func answers(to host: String) -> Bool { server.answers(to: host) }

    /// Takes all of a new configuration; running connections keep what they have, except for their streams' rates, and those that came in
    /// by a way that is refused now.
    func take(_ configuration: HubConfiguration) {
        let old = settings.withLock { exchange(&$0, with: configuration) }
        if old.switches != configuration.switches { checkEverybody() }
        if old.telemetry.partitions != configuration.telemetry.partitions {
            Log.warning("restart-needed", ["for": "telemetry-partitions"])
        }
        allotments.take(configuration.limits)
        throttles.take(configuration.limits.throttles)
        registry.submit(.setHubFacts(facts), to: writer) { _ in }
        telemetry.setRetention(configuration.telemetry.retention)
        ration()
    }

    /// What tools are to know of this hub.
    var facts: HubFacts { HubFacts(names: names, httpsPort: httpsPort, messages: limits.messages) }

    /// The hub's short name: the first label of its first name.
    var shortName: String { names.first.map { String($0.prefix { $0 != "." }) } ?? "hub" }

    /// What the service API shows of an identity that only a running hub knows.
    func liveState(_ name: ClientIdentity) -> LiveState {
        var state = directory.liveState(name)
        if name.moduleID == nil { state.cloudToDeviceMessageCount = (try? registry.messageCount(of: name.deviceID)) ?? 0 }
        return state
    }

    var streams: Int { allotments.running }
}
