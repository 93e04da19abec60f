import Console
import Dialing
import Glibc
import LinuxIO
import Wire

/// What forward and connect are told alike, checked. Made whole or not at all.
struct ServiceSettings: Sendable {
    let connection: ConnectionString
    let access: HubAccess
    /// Seconds that the hub waits for a device that is not connected.
    let waitSeconds: Int
    let drainSeconds: Int
    let mode: StreamMode
    /// Streams for which connections to the hub are kept ready.
    let warm: Int
    /// Nil: loopback.
    let bind: String?
    let trust: ServiceTrust

    static let options: [Option] =
        [.config] + Option.connectionString + [
            .ca,
            .value("module", "M", "reach this module of the device"),
            .value("proxy", "URL", "http://[user:pass@]host:port (else https_proxy, all_proxy and no_proxy)"),
            .value("wait", "TIME", "how long the hub waits for a device that is not connected, up to 5m (default: not at all)"),
        ] + ServiceTrust.options

    /// Reads the configuration file, the connection string and what they name. Run again for SIGHUP.
    init(_ arguments: Arguments) throws(Failure) {
        let file = try ProxyConfiguration.load(arguments)
        func text(_ name: String) -> String? { arguments.text(name) ?? file?.top.text(name) }
        /// An error's place: the file's line, or the option.
        func wrong(_ key: String, _ reason: String) -> Failure {
            guard arguments.text(key) == nil, let file else { return .usage("--\(key): \(reason)") }
            return .config(path: file.path, line: file.top.line(of: key), reason: "\(key): \(reason)")
        }
        connection = try Self.connection(arguments, file?.top.text("connection-string-file"))
        let wait = try arguments.seconds("wait", in: 0...300) ?? file?.top.seconds("wait") ?? 0
        guard 0...300 ~= wait else { throw wrong("wait", "takes 0s to 5m") }
        waitSeconds = wait
        drainSeconds = min(file?.top.seconds("drain-seconds") ?? 10, 3600)
        mode = try StreamMode(arguments, file?.top)
        warm = try arguments.integer("warm", in: 0...64) ?? file?.top.integer("warm") ?? 0
        bind = text("bind")

        let proxies: ProxyChoice
        do throws(DialError) {
            proxies = try ProxyChoice(option: text("proxy"), environment: Environment.text)
        } catch {
            throw text("proxy") == nil ? .config("\(error)") : wrong("proxy", "\(error)")
        }
        let authority = text("ca")
        if let authority, !Files.isReadable(authority) { throw .errno(errno, authority) }
        do throws(DialError) {
            access = try HubAccess(authorityPath: authority, proxies: proxies)
        } catch {
            if case .file(let path, let reason) = error { throw .data("\(path): \(reason)") }
            throw .system("\(error)")
        }
        trust = try ServiceTrust(arguments, file?.top)
    }

    private static func connection(_ arguments: Arguments, _ configured: String?) throws(Failure) -> ConnectionString {
        var found = try arguments.connectionString()
        if found == nil, let configured { found = try SecretFile.connectionString(configured, role: arguments.role) }
        guard let text = found else {
            throw .usage("no connection string", "name its file with --connection-string-file, or set IOTSTREAM_CONNECTION_STRING")
        }
        let hint = "iotstream policy connection-string NAME prints a good one"
        let connection: ConnectionString
        do { connection = try ConnectionString(parsing: text) } catch { throw .config("the \(error)", hint) }
        guard connection.client == nil, connection.policy != nil else { throw .config("the connection string is a device's", hint) }
        switch connection.credential {
        case .key, .signature: return connection
        case .x509, nil: throw .config("the connection string has no key", hint)
        }
    }
}

extension Files {
    /// Whether this process may read the file.
    static func isReadable(_ path: String) -> Bool { access(path, R_OK) == 0 }
}
