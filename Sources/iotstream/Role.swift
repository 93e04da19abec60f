import Agent
import Certificates
import Console
import Glibc
import Hub
import Provisioning
import Proxy

/// The roles of the one executable: `iotstream-hub -n` and `iotstream hub -n` are the same command.
enum Role {
    static let version = Product.version

    /// In the order of the overview.
    static let all: [Command] = [
        HubRole.command(
            check: { file throws(Failure) in try ProvisioningRole.check(configuration: file) },
            join: { host, paths, file throws(Failure) in try ProvisioningRole.join(host, at: paths, configuration: file) }),
        ProvisioningRole.command, AgentRole.command, ForwardRole.command, ConnectRole.command, SSHRole.command,
        KnownDevicesRole.command, BenchRole.command, DoctorRole.command, CertRole.command,
        DeviceCommand.command, ModuleCommand.command, TwinCommand.command, MethodCommand.command, MessageCommand.command,
        MonitorCommand.command, AuditCommand.command,
        JobsCommand.command, ConfigurationCommand.command, QuotaCommand.command,
        EnrollmentCommands.individual, EnrollmentCommands.group, LinkedHubCommand.command, ProvisioningCommand.command,
        PolicyCommand.command, AuthorityCommands.command, SASCommand.command,
        StreamCommand.command, RequestCommand.command, CompletionCommand.command,
    ]
    /// Roles with a symlink of their own, `iotstream-NAME`.
    static let linked = ["hub", "dps", "agent", "forward", "cert"]

    /// The command that the words ask for, and the words that are its own; nil when no role has that name.
    static func find(_ arguments: [String]) -> (command: Command, rest: ArraySlice<String>)? {
        let program = arguments.first?.split(separator: "/").last ?? ""
        let linked = program.hasPrefix("iotstream-")
        let name = linked ? String(program.dropFirst(10)) : arguments.dropFirst().first
        return all.first { $0.name == name }.map { ($0, arguments.dropFirst(linked ? 1 : 2)) }
    }

    /// Runs what the words ask for.
    ///
    /// - Returns: the process's exit status.
    static func start(_ arguments: [String]) -> Int32 {
        signal(SIGPIPE, SIG_IGN)  // a reader that has gone is an error of the write
        if let (command, rest) = find(arguments) { return command.launch(Array(rest), version: version) }
        let program = arguments.first?.split(separator: "/").last ?? ""
        let word = program.hasPrefix("iotstream-") ? String(program.dropFirst(10)) : arguments.dropFirst().first
        do throws(Failure) {
            switch word {
            case "--version": try Output.line("iotstream \(version)")
            case "--help", "-h": try Output.write(Help.overview(of: all))
            case "help":
                guard arguments.count > 2 else {
                    try Output.write(Help.overview(of: all))
                    break
                }
                return start(["iotstream", arguments[2], "--help"])
            default: throw unknown(word)
            }
            try Output.flush()
            return 0
        } catch {
            Output.report(error, role: "")
            return error.exitCode
        }
    }

    private static func unknown(_ word: String?) -> Failure {
        let names = all.map(\.name).joined(separator: ", ")
        guard let word else { return .usage("a role is missing", "one of \(names)") }
        return .usage("\(word): no such role", "one of \(names)")
    }
}
