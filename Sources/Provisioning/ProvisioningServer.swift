import Connections
import Console
import Enrollments
import LinuxIO
import Serving
import Store
import Wire

/// The running service: what it does beside listening.
final class ProvisioningServer: ServedRole {
    let name = "dps"
    let core: ProvisioningCore
    private let paths: RuntimePaths
    private let lock: RoleLock
    private let readConfiguration: () throws(Failure) -> ProvisioningConfiguration
    private var sweepTimer: Timer?
    /// How long an operation that has ended can be asked for.
    private static let memorySeconds: Int64 = 1800

    init(
        _ paths: RuntimePaths, _ configuration: ProvisioningConfiguration, _ server: ServerCore, lock: RoleLock,
        read: @escaping () throws(Failure) -> ProvisioningConfiguration
    ) throws(Failure) {
        self.paths = paths
        self.lock = lock
        readConfiguration = read
        var options = Store.Options()
        options.everyPage = true  // a damaged page is refused now, instead of ending the process later
        do {
            let enrollments = try Enrollments.open(paths, options, scope: configuration.scope)
            core = ProvisioningCore(
                server, enrollments, try GroupWriter(enrollments.store), try RegistrationDesk(), configuration)
        } catch let error as EnrollmentError {
            if case .store(let inner) = error { throw Failure(exitCode: inner.exitCode, inner.description) }
            throw .config(error.message)
        } catch {
            throw error as? Failure ?? .system("\(error)")
        }
    }

    var https: @Sendable (consuming Channel) -> Connection { { [core] in HTTPConnection($0, service: core) } }
    var mqtts: @Sendable (consuming Channel) -> Connection {
        { [core] in ProvisioningConnection($0, core: core, framing: DeviceFraming(.plain)) }
    }

    func start(on reactor: Reactor) throws {
        core.desk.begin(core)
        for operation in try core.enrollments.runningOperations() { core.desk.take(operation) }
        sweepTimer = Timer(on: reactor) { [core] timer, reactor in
            let past = Timestamp(seconds: Clock.unixSeconds - Self.memorySeconds)
            core.enrollments.submit(.sweep(before: past), to: core.writer) { _ in }
            timer.set(inMilliseconds: 300_000, on: reactor)
        }
        sweepTimer?.set(inMilliseconds: 1000, on: reactor)
    }

    func load() throws(Failure) -> (ServingSettings, apply: () -> Void) {
        let configuration = try readConfiguration()
        return (configuration.serving, { [core] in core.take(configuration) })
    }

    var statusPath: String { paths.dpsStatus }
    var status: [(name: String, value: JSONValue)] {
        [
            ("idScope", .string((try? core.enrollments.settings().scope) ?? "")),
            ("registrations", .integer(Int64(core.desk.running))),
        ]
    }

    func look() { _ = try? core.enrollments.store.clearStaleReaders() }
    func drain(on reactor: Reactor) {}
    func hasten() {}

    func finish() {
        core.desk.finish()
        core.writer.close()
    }
}
