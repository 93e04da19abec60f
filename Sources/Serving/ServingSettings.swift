import Audit
import Console
import Glibc
import LinuxIO
import TLS
import Wire

/// What every serving role is told by its file and its command line; the line wins.
package struct ServingSettings: Sendable, Equatable {
    /// Names it answers to; the first is the one it prints.
    package var names: [String]
    package var https: [ListenAddress]
    package var mqtts: [ListenAddress]
    package var certificatePath: String?
    package var keyPath: String?
    package var workers: Int
    package var drainSeconds: Int
    /// Whether the kernel may seal what legs of streams send, where it can.
    package var mayUseKernelTLS = false
    package var limits = ServingLimits()
    package var audit = AuditOptions()

    /// The keys of the configuration file that are read here.
    package static let keys: [ConfigurationSchema.Key] = [
        .list("hostname"), .list("https", of: .address), .list("mqtts", of: .address), .init("tls-cert", .text), .init("tls-key", .text),
        .init("workers", .integer(1...256)), .init("drain-seconds", .seconds), .init("max-connections", .integer(1...10_000_000)),
        .init("request-bytes", .bytes), .init("packet-bytes", .bytes), .init("handshake-seconds", .seconds),
        .init("idle-seconds", .seconds), .init("audit-days", .integer(1...36_500)), .init("audit-bytes", .bytes),
        .init("audit-file-bytes", .bytes),
    ]

    /// The options that are read here, and `--config`, `--state` and `--check`.
    ///
    /// - Parameter role: the role as the texts name it: `hub`.
    package static func options(of role: String) -> [Option] {
        [
            .config, .state,
            .value("hostname", "NAME", "a name the \(role) answers to; the first is the one it prints", repeats: true),
            .value("https", "ADDR:PORT", "HTTPS listener ([::]:443)", repeats: true),
            .value("mqtts", "ADDR:PORT", "MQTT listener ([::]:8883)", repeats: true),
            .value("tls-cert", "FILE", "certificate chain, leaf first, PEM", completion: .file),
            .value("tls-key", "FILE", "its private key, PEM", completion: .file),
            .value("workers", "N", "reactor threads (one for each core)"),
            .flag("check", "validate the configuration and exit"),
        ]
    }

    /// The role's configuration file: the one that is named, else `usual` if there is such a file; nil when there is none.
    package static func file(_ named: String?, usual: String, schema: ConfigurationSchema) throws(Failure) -> Configuration? {
        guard let path = named ?? (Files.exists(usual) ? usual : nil) else { return nil }
        let text = try InputFile.text(path)
        do throws(ConfigurationError) {
            return try Configuration(parsing: text, schema: schema)
        } catch {
            throw .config(path: path, line: error.line, reason: error.reason)
        }
    }

    /// Lays the options over what the file's first part says.
    package init(_ top: Configuration.Section?, _ arguments: Arguments) throws(Failure) {
        func addresses(_ option: String, _ fallback: UInt16) throws(Failure) -> [ListenAddress] {
            let named = try arguments.addresses(option)
            if !named.isEmpty { return named }
            let written = top?.addresses(option) ?? []
            return written.isEmpty ? [ListenAddress(host: "::", port: fallback)] : written
        }
        let named = arguments.list("hostname")
        names = named.isEmpty ? top?.texts("hostname") ?? [] : named
        for name in names where HostPort(parsing: name).map({ $0.port != nil }) ?? true {
            throw .config("\(name): not a host name", "give the name without a port")
        }
        if names.isEmpty { names = [Self.machineName] }
        https = try addresses("https", 443)
        mqtts = try addresses("mqtts", 8883)
        certificatePath = arguments.text("tls-cert") ?? top?.text("tls-cert")
        keyPath = arguments.text("tls-key") ?? top?.text("tls-key")
        workers =
            try arguments.integer("workers", in: 1...256) ?? top?.integer("workers") ?? max(1, Int(sysconf(CInt(_SC_NPROCESSORS_ONLN))))
        drainSeconds = top?.seconds("drain-seconds") ?? 10
        limits.connections = top?.integer("max-connections") ?? limits.connections
        limits.requestBytes = top?.bytes("request-bytes") ?? limits.requestBytes
        limits.packetBytes = top?.bytes("packet-bytes") ?? limits.packetBytes
        limits.handshakeSeconds = top?.seconds("handshake-seconds") ?? limits.handshakeSeconds
        limits.idleSeconds = top?.seconds("idle-seconds") ?? limits.idleSeconds
        audit.days = top?.integer("audit-days") ?? audit.days
        audit.totalBytes = top?.bytes("audit-bytes") ?? audit.totalBytes
        audit.fileBytes = max(1 << 16, top?.bytes("audit-file-bytes") ?? audit.fileBytes)
    }

    private static var machineName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, 255) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Looks at all that can be looked at without listening, and reads certificate and key.
    package func makeContext(_ tickets: TLSTicketKeys) throws(Failure) -> TLSContext {
        for address in https + mqtts { _ = try Self.resolve(address) }
        guard let certificatePath, let keyPath else {
            let name = names.first ?? "hub.example"
            throw .config(
                "no certificate",
                "make one with 'iotstream cert gen-root' and 'iotstream cert gen-server \(name)', then give --tls-cert and --tls-key")
        }
        do throws(TLSError) {
            return try TLSContext.server(certificatePath: certificatePath, keyPath: keyPath, tickets: tickets)
        } catch {
            throw .config(error.description, "check --tls-cert and --tls-key")
        }
    }

    /// Opens the role's audit log.
    ///
    /// - Parameters:
    ///   - path: its directory, which is made with the first line.
    ///   - service: the role as the log names it.
    package func auditLog(at path: String, by service: String) throws(Failure) -> AuditLog {
        do throws(SystemError) { return try AuditLog(at: path, by: service, audit) } catch {
            throw .system("cannot start threads: \(error)")
        }
    }

    static func resolve(_ address: ListenAddress) throws(Failure) -> SocketAddress {
        if address.host.isEmpty || address.host == "*" {
            if let any = SocketAddress(address: "::", port: address.port) { return any }
        }
        let host = address.host == "localhost" ? "127.0.0.1" : address.host
        guard let socket = SocketAddress(address: host, port: address.port) else {
            throw .config("\(address): not an address", "listeners take an IPv4 or IPv6 address and a port")
        }
        return socket
    }
}
