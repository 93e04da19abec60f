import Audit
import Bytes
import Console
import Glibc
import Hub
import LinuxIO
import Registry
import Wire

/// The lines of the audit log that a command writes itself, as it changes a state directory without a hub's help.
enum LocalAudit {
    /// The user who runs the command, `user:UID`.
    static var actor: String { "user:\(geteuid())" }

    /// Writes a line; one that cannot be written is a warning, as what it tells of has happened.
    static func record(_ event: AuditEvent, at path: String) {
        var event = event
        if let login, login != geteuid() { event.detail["login"] = .integer(Int64(login)) }
        do throws(SystemError) { try AuditLog.append(event, at: path, by: "command") } catch {
            Output.warn(role: event.kind.rawValue, "\(path): the audit log could not be written: \(error.reason)")
        }
    }

    /// The user who has logged in and may have become another since; nil when nobody has.
    private static var login: uid_t? {
        guard let bytes = try? Files.read("/proc/self/loginuid"), let text = bytes.span.bytes.toString(), let user = uid_t(text) else {
            return nil
        }
        return user == .max ? nil : user
    }
}

extension Registry {
    /// Runs a command for the person at the command line, and tells the audit log of it.
    @discardableResult
    func order(_ command: RegistryCommand) throws(RegistryError) -> RegistryOutcome {
        let result: Result<RegistryOutcome, RegistryError>
        do throws(RegistryError) { result = .success(try perform(command)) } catch { result = .failure(error) }
        for deed in command.deeds(result) { LocalAudit.record(AuditEvent(deed, by: LocalAudit.actor), at: paths.audit) }
        return try result.get()
    }
}
