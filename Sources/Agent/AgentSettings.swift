import Console
import Dialing
import Glibc
import LinuxIO
import Wire

/// Everything an agent was told, checked. Made whole or not at all.
struct AgentSettings: Sendable {
    var hub: HubSession.Settings
    var allow: AllowList
    /// Whether a person decides, and for how long that may take.
    var asks: Bool
    var askSeconds: Int
    /// Streams, requests on their way included.
    var streamLimit: Int
    var drainSeconds: Int
    /// Streams for which connections to the hub are kept ready.
    var warm: Int
    var runDirectory: String
    var trust: AgentTrust

    /// Reads the configuration file, the connection string and what they name. Run again for SIGHUP.
    init(_ arguments: Arguments) throws(Failure) {
        let path = arguments.configFile, file = try Self.configuration(path), top = file?.top
        func text(_ name: String) -> String? { arguments.text(name) ?? top?.text(name) }
        /// An error's place: the file's line, or the option.
        func wrong(_ key: String, _ reason: String, isOption: Bool, index: Int = 0) -> Failure {
            if !isOption, let path, let top {
                let lines = top.lines(of: key)
                let line = lines.indices.contains(index) ? lines[index] : top.line(of: key)
                return .config(path: path, line: line, reason: "\(key): \(reason)")
            }
            return .usage("--\(key): \(reason)")
        }

        let connection = try Self.connection(arguments, top)
        guard let client = connection.client else {
            throw .data("the connection string is a policy's, not a device's", "iotstream device connection-string ID prints a device's")
        }
        let certificate = text("cert"), key = text("key")
        guard (certificate == nil) == (key == nil) else { throw .usage("--cert and --key belong together") }
        switch connection.credential {
        case .key, .signature: break
        case .x509, nil:
            guard certificate != nil else {
                throw .data("the connection string has no key", "name the device's certificate with --cert and --key")
            }
        }
        let access = try Self.access(
            authority: text("ca"), certificate: certificate, key: key, proxy: text("proxy"),
            wrong: { wrong("proxy", $0, isOption: arguments.flag("proxy")) })

        let usesMQTT = try (arguments.choice("transport", of: ["websocket", "mqtt"]) ?? top?.text("transport")) == "mqtt"
        let port = try arguments.integer("mqtt-port", in: 1...65535) ?? top?.integer("mqtt-port")
        var places = [connection.gateway ?? connection.host]
        for (index, word) in (top?.texts("hub") ?? []).enumerated() {
            guard let place = HostPort(parsing: word) else {
                throw wrong("hub", "not a host or host:port", isOption: false, index: index)
            }
            if !places.contains(place) { places.append(place) }
        }
        let lifetime = top?.seconds("token-lifetime") ?? 3600
        guard 30...31_536_000 ~= lifetime else { throw wrong("token-lifetime", "takes 30s to 365d", isOption: false) }
        hub = HubSession.Settings(
            connection: connection, client: client, places: places, access: access,
            mqttPort: usesMQTT ? port.flatMap { UInt16(exactly: $0) } ?? 8883 : nil, tokenLifetimeSeconds: lifetime)

        allow = AllowList()
        for (rules, isOption) in [(top?.texts("allow") ?? [], false), (arguments.list("allow"), true)] {
            for (index, rule) in rules.enumerated() {
                do throws(AllowList.Malformed) { try allow.add(rule) } catch {
                    throw wrong("allow", "\(rule): \(error.reason)", isOption: isOption, index: index)
                }
            }
        }
        asks = arguments.flag("ask") || top?.boolean("ask") == true
        askSeconds = try arguments.seconds("ask-timeout", in: 1...300) ?? top?.seconds("ask-timeout") ?? 55
        guard 1...300 ~= askSeconds else { throw wrong("ask-timeout", "takes 1s to 5m", isOption: false) }
        streamLimit = try arguments.integer("max-streams", in: 1...1_000_000) ?? top?.integer("max-streams") ?? 2000
        warm = try arguments.integer("warm", in: 0...64) ?? top?.integer("warm") ?? 0
        drainSeconds = min(top?.seconds("drain-seconds") ?? 10, 3600)
        runDirectory =
            arguments.text("state") == nil
            ? top?.text("state").map { "\($0)/run" } ?? arguments.agentRunDirectory : arguments.agentRunDirectory
        trust = try AgentTrust(arguments, top, name: client.clientID)
    }

    static func configuration(_ path: String?) throws(Failure) -> Configuration? {
        guard let path else { return nil }
        let text = try InputFile.text(path, limit: 1 << 20)
        do throws(ConfigurationError) {
            return try Configuration(parsing: text, schema: AgentConfiguration.schema)
        } catch {
            throw .config(path: path, line: error.line, reason: error.reason)
        }
    }

    private static func connection(_ arguments: Arguments, _ top: Configuration.Section?) throws(Failure) -> ConnectionString {
        var found = try arguments.text("connection-string-file") == nil ? nil : arguments.connectionString()
        if found == nil, arguments.text("connection-string") == nil, let path = top?.text("connection-string-file") {
            found = try SecretFile.connectionString(path, role: arguments.role)
        }
        if found == nil { found = try arguments.connectionString() }
        guard let text = found else {
            throw .usage("no connection string", "name its file with --connection-string-file, or set IOTSTREAM_CONNECTION_STRING")
        }
        do { return try ConnectionString(parsing: text) } catch {
            throw .data("\(error)", "iotstream device connection-string ID prints a good one")
        }
    }

    private static func access(
        authority: String?, certificate: String?, key: String?, proxy: String?, wrong: (String) -> Failure
    ) throws(Failure) -> HubAccess {
        for path in [authority, certificate].compactMap(\.self) where !isReadable(path) { throw .errno(errno, path) }
        if let key { _ = try SecretFile.key(key) }
        let proxies: ProxyChoice
        do throws(DialError) {
            proxies = try ProxyChoice(option: proxy, environment: Environment.text)
        } catch {
            throw proxy == nil ? .config("\(error)") : wrong("\(error)")
        }
        do throws(DialError) {
            return try HubAccess(
                authorityPath: authority, certificatePath: certificate, keyPath: key, proxies: proxies, takesNotYetValid: true)
        } catch {
            if case .file(let path, let reason) = error { throw .data("\(path): \(reason)") }
            throw .system("\(error)")
        }
    }

    private static func isReadable(_ path: String) -> Bool { Glibc.access(path, R_OK) == 0 }
}
