import Connections
import Dialing
import Enrollments
import LinuxIO
import Synchronization
import Wire

/// Where registrations are worked on: a reactor of its own, from which hubs and webhooks are asked.
final class RegistrationDesk: Sendable {
    private let mailbox: Mailbox
    private let thread: Mutex<LinuxIO.Thread?>
    private let count = Atomic<Int>(0)

    init() throws(SystemError) {
        let (mailbox, thread) = try Reactor.start { _ in }
        self.mailbox = mailbox
        self.thread = Mutex(thread)
    }

    /// Registrations under way.
    var running: Int { count.load(ordering: .relaxed) }

    /// Tells whose registrations these are, once, before the first.
    func begin(_ core: ProvisioningCore) {
        mailbox.send { [unowned core] reactor in reactor.resident = RegistrationBench(core, on: reactor) }
    }

    /// Takes up an operation, unless it has ended or is under way.
    func take(_ operation: RegistrationOperation) {
        guard !operation.hasEnded else { return }
        mailbox.send { reactor in (reactor.resident as? RegistrationBench)?.take(operation, on: reactor) }
    }

    /// Goes on, from the thread of the store's writer.
    func go(_ work: @escaping @Sendable (Reactor) -> Void) { mailbox.send(work) }

    fileprivate func add(_ number: Int) { count.add(number, ordering: .relaxed) }

    /// Leaves everything as it is on the disk, where the next start finds it.
    func finish() {
        mailbox.send { reactor in
            (reactor.resident as? RegistrationBench)?.isClosing = true
            reactor.stop()
        }
        thread.withLock { $0.take() }?.join()
    }
}

/// What the desk's reactor has.
final class RegistrationBench {
    unowned let core: ProvisioningCore
    /// What breaks off now is not a hub's fault.
    var isClosing = false
    private var works: [String: RegistrationWork] = [:]
    private var hubs: [String: (connection: ConnectionString, client: HubClient)] = [:]
    private var access: (hubs: (path: String?, made: HubAccess)?, webhooks: (path: String?, made: HubAccess)?)

    init(_ core: ProvisioningCore, on reactor: Reactor) { self.core = core }

    func take(_ operation: RegistrationOperation, on reactor: Reactor) {
        guard works[operation.id] == nil else { return }
        let work = RegistrationWork(operation, at: self, on: reactor)
        works[operation.id] = work
        core.desk.add(1)
        work.proceed(on: reactor)
    }

    func work(_ id: String) -> RegistrationWork? { works[id] }

    func forget(_ id: String) { if works.removeValue(forKey: id) != nil { core.desk.add(-1) } }

    /// Asks a linked hub; nil when there is no such hub any more.
    func client(of name: String) throws(EnrollmentError) -> HubClient? {
        guard let hub = try core.enrollments.hub(name) else { return nil }
        if let known = hubs[hub.key], known.connection == hub.connection { return known.client }
        let configuration = core.configuration
        let access = try make(&access.hubs, configuration.hubAuthority)
        let client = HubClient(hub.connection, access, atOnce: configuration.limits.hubRequests)
        hubs[hub.key] = (hub.connection, client)
        return client
    }

    func webhookAccess() throws(EnrollmentError) -> HubAccess { try make(&access.webhooks, core.configuration.webhookAuthority) }

    /// Reads roots when they are needed, as the system's are large.
    private func make(_ known: inout (path: String?, made: HubAccess)?, _ path: String?) throws(EnrollmentError) -> HubAccess {
        if let known, known.path == path { return known.made }
        do throws(DialError) {
            let made = try HubAccess(authorityPath: path)
            known = (path, made)
            return made
        } catch {
            throw .refused(code: 500002, "\(error)")
        }
    }
}
