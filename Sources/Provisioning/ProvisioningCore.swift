import Audit
import Enrollments
import LinuxIO
import Serving
import Store
import Synchronization
import Wire

/// What the reactors of the service share.
final class ProvisioningCore: Sendable {
    let server: ServerCore
    let enrollments: Enrollments
    let writer: GroupWriter
    var audit: AuditLog { server.audit }
    let desk: RegistrationDesk
    let presence = DevicePresence()
    private let settings: Mutex<ProvisioningConfiguration>
    private let begun = Mutex((second: 0 as Int64, count: 0))

    init(
        _ server: ServerCore, _ enrollments: Enrollments, _ writer: GroupWriter, _ desk: RegistrationDesk,
        _ configuration: ProvisioningConfiguration
    ) {
        self.server = server
        self.enrollments = enrollments
        self.writer = writer
        self.desk = desk
        settings = Mutex(configuration)
    }

    var configuration: ProvisioningConfiguration { settings.withLock { $0 } }
    var names: [String] { configuration.serving.names }
    func take(_ configuration: ProvisioningConfiguration) { settings.withLock { $0 = configuration } }

    /// Counts a registration in; false when there are too many.
    func mayBegin() -> Bool {
        let limits = settings.withLock { $0.limits }, now = Clock.unixSeconds
        guard desk.running < limits.atOnce else { return false }
        return begun.withLock { begun in
            if begun.second != now { begun = (now, 0) }
            begun.count += 1
            return begun.count <= limits.perSecond
        }
    }
}

/// Which devices are connected over MQTT: a second connection of the same registration takes the place of the first.
final class DevicePresence: Sendable {
    private let present = Mutex<[String: (mailbox: Mailbox, token: Token)]>([:])

    /// Enters a connection and returns the one whose place it takes.
    func enter(_ key: String, _ mailbox: Mailbox, _ token: Token) -> (mailbox: Mailbox, token: Token)? {
        present.withLock { $0.updateValue((mailbox, token), forKey: key) }
    }

    /// Removes a connection, unless another has taken its place.
    func leave(_ key: String, _ mailbox: Mailbox, _ token: Token) {
        present.withLock { present in
            if let known = present[key], known.mailbox === mailbox, known.token == token { present[key] = nil }
        }
    }
}
