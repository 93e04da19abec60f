import Glibc
import LinuxIO
import Registry
import Store
import Synchronization
import TLS
import Telemetry
import Wire

/// What the hub's reactors share. Everything in it is immutable or behind a lock that is held for a look-up only; nothing of
/// it is touched while bytes of streams flow.
final class HubCore: Sendable {
    let registry: Registry
    let writer: GroupWriter
    let telemetry: TelemetryLog
    let paths: RuntimePaths
    /// Work with files that may block.
    let files: Worker
    let queries: QueryDesk
    /// Reading of the telemetry log.
    let telemetryReading: Worker
    /// Files of devices.
    let uploads: UploadDesk
    let directory = Directory()
    let locks = MessageLocks()
    let feedback = BatchLocks(), fileNotices = BatchLocks()
    let tickets = TLSTicketKeys()
    /// The worker reactors, in order; a stream's home is an index here.
    let mailboxes: [Mailbox]
    private let settings: Mutex<Settings>
    private let connectionCount = Atomic<Int>(0)
    let allotments: Allotments
    let startedAt = Timestamp.now

    struct Settings: Sendable {
        var configuration: HubConfiguration
        var context: TLSContext
        /// Port of the first HTTPS listener, as bound.
        var httpsPort: UInt16
    }

    init(
        registry: Registry, writer: GroupWriter, telemetry: TelemetryLog, files: Worker, queries: QueryDesk, telemetryReading: Worker,
        uploads: UploadDesk, mailboxes: [Mailbox], configuration: HubConfiguration, context: TLSContext, httpsPort: UInt16
    ) {
        self.registry = registry
        self.writer = writer
        self.telemetry = telemetry
        self.paths = registry.paths
        self.files = files
        self.queries = queries
        self.telemetryReading = telemetryReading
        self.uploads = uploads
        self.mailboxes = mailboxes
        settings = Mutex(Settings(configuration: configuration, context: context, httpsPort: httpsPort))
        allotments = Allotments(configuration.limits)
    }

    var configuration: HubConfiguration { settings.withLock { $0.configuration } }
    var limits: HubLimits { settings.withLock { $0.configuration.limits } }
    var context: TLSContext { settings.withLock { $0.context } }
    var names: [String] { settings.withLock { $0.configuration.names } }
    var httpsPort: UInt16 { settings.withLock { $0.httpsPort } }

    /// Takes all of a new configuration and certificate; running connections keep what they have, except for their streams' rates.
    func replace(configuration: HubConfiguration, context: TLSContext) {
        settings.withLock {
            $0.configuration = configuration
            $0.context = context
        }
        allotments.take(configuration.limits)
        telemetry.setRetention(configuration.telemetry.retention)
        ration()
    }

    /// Whether `host` (without port) is a name of this hub, compared without case.
    func answers(to host: String) -> Bool { names.contains { ASCII.equalIgnoringCase($0, host) } }

    /// The hub's short name: the first label of its first name.
    var shortName: String { names.first.map { String($0.prefix { $0 != "." }) } ?? "hub" }

    /// What the service API shows of an identity that only a running hub knows.
    func liveState(_ name: ClientIdentity) -> LiveState {
        var state = directory.liveState(name)
        if name.moduleID == nil { state.cloudToDeviceMessageCount = (try? registry.messageCount(of: name.deviceID)) ?? 0 }
        return state
    }

    // Counting

    /// A place for one more connection; nil when there are too many. It is given back when the connection ends.
    func place() -> ConnectionPlace? {
        let count = connectionCount.add(1, ordering: .relaxed).newValue
        guard count <= limits.serving.connections else {
            connectionCount.subtract(1, ordering: .relaxed)
            return nil
        }
        return ConnectionPlace(of: self)
    }

    fileprivate func leavePlace() { connectionCount.subtract(1, ordering: .relaxed) }
    var connections: Int { connectionCount.load(ordering: .relaxed) }
    var streams: Int { allotments.running }
}

/// A connection's place in the hub's count.
final class ConnectionPlace: Sendable {
    private let core: HubCore
    fileprivate init(of core: HubCore) { self.core = core }
    deinit { core.leavePlace() }
}
