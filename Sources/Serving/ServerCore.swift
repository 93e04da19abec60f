import Audit
import LinuxIO
import Synchronization
import TLS
import Wire

/// What the reactors of a serving role share. Everything in it is immutable or behind a lock that is held for a look-up only.
package final class ServerCore: Sendable {
    /// The worker reactors, in order.
    package let mailboxes: [Mailbox]
    /// Work with files that may block.
    package let files: Worker
    /// Who did what.
    package let audit: AuditLog
    package let startedAt = Timestamp.now
    /// Port of the first HTTPS listener, as bound.
    package let httpsPort: UInt16
    private let state: Mutex<(settings: ServingSettings, context: TLSContext)>
    private let connectionCount = Atomic<Int>(0)

    init(mailboxes: [Mailbox], files: Worker, audit: AuditLog, settings: ServingSettings, context: TLSContext, httpsPort: UInt16) {
        self.mailboxes = mailboxes
        self.files = files
        self.audit = audit
        self.httpsPort = httpsPort
        state = Mutex((settings, context))
    }

    package var settings: ServingSettings { state.withLock { $0.settings } }
    package var limits: ServingLimits { state.withLock { $0.settings.limits } }
    package var names: [String] { state.withLock { $0.settings.names } }
    var context: TLSContext { state.withLock { $0.context } }
    /// Whether the kernel seals what legs of streams send, from now on.
    package var usesKernelTLS: Bool { KernelSealing.isOffered && state.withLock { $0.settings.mayUseKernelTLS } }

    /// Takes all of new settings and certificate; running connections keep what they have.
    func replace(_ settings: ServingSettings, _ context: TLSContext) {
        state.withLock { $0 = (settings, context) }
        audit.take(settings.audit)
    }

    /// Whether `host` (without port) is a name of this role, compared without case.
    package func answers(to host: String) -> Bool { names.contains { ASCII.equalIgnoringCase($0, host) } }

    // Counting

    /// A place for one more connection; nil when there are too many. It is given back when the connection ends.
    func place() -> ConnectionPlace? {
        let count = connectionCount.add(1, ordering: .relaxed).newValue
        guard count <= limits.connections else {
            connectionCount.subtract(1, ordering: .relaxed)
            return nil
        }
        return ConnectionPlace(of: self)
    }

    fileprivate func leavePlace() { connectionCount.subtract(1, ordering: .relaxed) }
    package var connections: Int { connectionCount.load(ordering: .relaxed) }
}

/// A connection's place in the count.
final class ConnectionPlace: Sendable {
    private let core: ServerCore
    fileprivate init(of core: ServerCore) { self.core = core }
    deinit { core.leavePlace() }
}
