import Glibc

/// Options that mean the same in every command that has them.
extension Option {
    /// `--state DIR`; read it with `Arguments.stateDirectory`.
    package static let state = Option.value("state", "DIR", "the hub's state directory (IOTSTREAM_STATE)", completion: .directory)
    /// `--config FILE`; read it with `Arguments.configFile`.
    package static let config = Option.value("config", "FILE", "the configuration file (IOTSTREAM_CONFIG)", completion: .file)
    /// `--json`.
    package static let json = Option.flag("json", "print results as JSON")
    /// `--ca FILE`.
    package static let ca = Option.value("ca", "FILE", "root that the hub's certificate chains to (else the system's)", completion: .file)
    /// `--yes`: no question before something is destroyed; see `Prompt.confirm`.
    package static let yes = Option.flag("yes", short: "y", "do not ask before destroying something")
    /// `--connection-string` and `--connection-string-file`; read them with `Arguments.connectionString`.
    package static let connectionString: [Option] = [
        .value("connection-string", "TEXT", "connection string; everybody can read it in the process list, so prefer a file"),
        .value("connection-string-file", "FILE", "file with the connection string (IOTSTREAM_CONNECTION_STRING)", completion: .file),
    ]
}

extension Arguments {
    /// `--state`, else `IOTSTREAM_STATE`, else `/var/lib/iotstream`.
    package var stateDirectory: String { stateDirectoryIfNamed ?? "/var/lib/iotstream" }

    /// The state directory when somebody named one.
    package var stateDirectoryIfNamed: String? { text("state") ?? Environment.nonEmpty("IOTSTREAM_STATE") }

    /// `--config`, else `IOTSTREAM_CONFIG`; nil when neither is there.
    package var configFile: String? { text("config") ?? Environment.nonEmpty("IOTSTREAM_CONFIG") }

    /// `--json` was given.
    package var wantsJSON: Bool { flag("json") }

    /// The connection string: from the file, the option or the environment, in this order; nil when there is none.
    package func connectionString() throws(Failure) -> String? {
        if let path = text("connection-string-file") { return try SecretFile.connectionString(path, role: role) }
        return text("connection-string") ?? Environment.nonEmpty("IOTSTREAM_CONNECTION_STRING")
    }
}

extension Environment {
    /// The variable's text; nil when it is not set or empty.
    package static func nonEmpty(_ name: String) -> String? {
        text(name).flatMap { $0.isEmpty ? nil : $0 }
    }
}

extension Arguments {
    /// Where an agent leaves `requests/`, and where `iotstream request` looks for it: `--state DIR/run`, else the service manager's
    /// runtime directory, else `/run/iotstream-agent` for root, else `iotstream-agent` in the user's own runtime directory.
    package var agentRunDirectory: String {
        if let state = stateDirectoryIfNamed { return "\(state)/run" }
        if let given = Environment.nonEmpty("RUNTIME_DIRECTORY") { return given.split(separator: ":").first.map { String($0) } ?? given }
        if geteuid() != 0, let own = Environment.nonEmpty("XDG_RUNTIME_DIR") { return "\(own)/iotstream-agent" }
        return "/run/iotstream-agent"
    }
}

extension Arguments {
    /// Where an agent keeps its key and finds `authorized_services`: `--state`, else what its configuration says, else IOTSTREAM_STATE, else
    /// the service manager's state directory, else `/var/lib/iotstream-agent` for root, else `.iotstream` in the user's home; nil when
    /// there is none.
    package func agentStateDirectory(configured: String?) -> String? {
        if let named = text("state") ?? configured ?? stateDirectoryIfNamed { return named }
        if let given = Environment.nonEmpty("STATE_DIRECTORY") { return given.split(separator: ":").first.map { String($0) } ?? given }
        return geteuid() == 0 ? "/var/lib/iotstream-agent" : Environment.ownDirectory
    }
}

extension Environment {
    /// `.iotstream` in the user's home; nil for a user without one, such as many a service: a home is not made.
    package static var ownDirectory: String? {
        guard let home, access(home, F_OK) == 0 else { return nil }
        return home.hasSuffix("/") ? "\(home).iotstream" : "\(home)/.iotstream"
    }

    /// `HOME`, else what the user database says.
    private static var home: String? {
        if let home = nonEmpty("HOME") { return home }
        guard let entry = getpwuid(geteuid()), let directory = entry.pointee.pw_dir else { return nil }
        let home = String(cString: directory)
        return home.hasPrefix("/") ? home : nil
    }
}
