import Console
import Dialing
import Glibc
import LinuxIO
import Trust
import Wire

/// Everything an agent was told, checked. Made whole or not at all.
struct AgentSettings: Sendable {
    var access: HubAccess
    /// Where the device belongs; nil when a provisioning service says so.
    var hub: HubSession.Settings?
    var provisioning: ProvisioningSettings?
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
    private var way: Way

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

        let isProvisioned = text("provision") != nil
        let certificate = text("cert"), key = text("key")
        guard (certificate == nil) == (key == nil) else { throw .usage("--cert and --key belong together") }
        let connection = isProvisioned ? nil : try Self.connection(arguments, top)
        let asked =
            isProvisioned ? try Self.registration(arguments, top, wrong: { wrong($0, $1, isOption: arguments.text($0) != nil) }) : nil
        let name: String
        if let connection {
            guard let client = connection.client else {
                throw .data(
                    "the connection string is a policy's, not a device's", "iotstream device connection-string ID prints a device's")
            }
            switch connection.credential {
            case .key, .signature: break
            case .x509, nil:
                guard certificate != nil else {
                    throw .data("the connection string has no key", "name the device's certificate with --cert and --key")
                }
            }
            name = client.clientID
        } else {
            name = asked?.name?.id ?? "device"
        }
        trust = try AgentTrust(arguments, top, name: name)
        let authority = text("ca"), identity = trust.identity
        if let authority, !Self.isReadable(authority) { throw .errno(errno, authority) }
        let proxies = try Self.proxies(text("proxy"), wrong: { wrong("proxy", $0, isOption: arguments.flag("proxy")) })
        do throws(DialError) {
            let pair: @Sendable () -> ClientPair = {
                let (own, generation) = identity.current
                return ClientPair(chain: own.chain, key: own.key, generation: generation)
            }
            access = try HubAccess(
                authorityPath: authority, identity: certificate == nil ? nil : pair, proxies: proxies, takesNotYetValid: true)
        } catch {
            if case .file(let path, let reason) = error { throw .data("\(path): \(reason)") }
            throw .system("\(error)")
        }

        let usesMQTT = try (arguments.choice("transport", of: ["websocket", "mqtt"]) ?? top?.text("transport")) == "mqtt"
        let port = try arguments.integer("mqtt-port", in: 1...65535) ?? top?.integer("mqtt-port")
        let lifetime = top?.seconds("token-lifetime") ?? 3600
        guard 30...31_536_000 ~= lifetime else { throw wrong("token-lifetime", "takes 30s to 365d", isOption: false) }
        way = Way(
            mqttPort: usesMQTT ? port.flatMap { UInt16(exactly: $0) } ?? 8883 : nil, tokenLifetimeSeconds: lifetime,
            hubPort: try (arguments.integer("hub-port", in: 1...65535) ?? top?.integer("hub-port")).flatMap { UInt16(exactly: $0) })
        if let connection, let client = connection.client {
            var places = [connection.gateway ?? connection.host]
            for (index, word) in (top?.texts("hub") ?? []).enumerated() {
                guard let place = HostPort(parsing: word) else {
                    throw wrong("hub", "not a host or host:port", isOption: false, index: index)
                }
                if !places.contains(place) { places.append(place) }
            }
            hub = way.session(with: connection, client, places, through: access, as: trust.identity)
        } else if let asked {
            guard top?.texts("hub").isEmpty != false else {
                throw wrong("hub", "the provisioning service says which hub it is", isOption: false)
            }
            provisioning = try Self.provisioning(asked, trust, certificate, access, arguments, top)
        }

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
    }

    /// How hubs are spoken to, whichever it is.
    private struct Way: Sendable {
        var mqttPort: UInt16?
        var tokenLifetimeSeconds: Int
        /// The HTTPS port of hubs that a provisioning service names without one.
        var hubPort: UInt16?

        func session(
            with connection: ConnectionString, _ client: ClientIdentity, _ places: [HostPort], through access: HubAccess,
            as identity: RenewedIdentity
        ) -> HubSession.Settings {
            HubSession.Settings(
                connection: connection, client: client, places: places, access: access, mqttPort: mqttPort,
                tokenLifetimeSeconds: tokenLifetimeSeconds, ownFault: { identity.current.identity.datesFault(at: Clock.unixSeconds) })
        }
    }

    /// The conversation with the hub that a provisioning service has assigned; nil without such a service.
    func hub(of assignment: Assignment) -> HubSession.Settings? {
        guard let provisioning, let client = ClientIdentity(deviceID: assignment.deviceID) else { return nil }
        let host = HostPort(host: assignment.hub.host, port: assignment.hub.port ?? way.hubPort)
        let connection = ConnectionString(host: host, client: client, credential: provisioning.key.map { .key($0) } ?? .x509)
        return way.session(with: connection, client, [host], through: access, as: trust.identity)
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
            throw .data("the \(error)", "iotstream device connection-string ID prints a good one")
        }
    }

    private static func proxies(_ proxy: String?, wrong: (String) -> Failure) throws(Failure) -> ProxyChoice {
        do throws(DialError) {
            return try ProxyChoice(option: proxy, environment: Environment.text)
        } catch {
            throw proxy == nil ? .config("\(error)") : wrong("\(error)")
        }
    }

    private static func isReadable(_ path: String) -> Bool { Glibc.access(path, R_OK) == 0 }
}
