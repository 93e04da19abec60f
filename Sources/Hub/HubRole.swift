import Connections
import Console
import Glibc
import LinuxIO
import Registry
import Store
import Streams
import Synchronization
import TLS
import Wire

/// `iotstream hub`: registry, device endpoint, service API and streaming endpoint in one process.
package enum HubRole {
    package static let command = Command(
        name: "hub", summary: "run the hub: registry, device endpoint, service API and streaming endpoint",
        details: """
            Listens for devices and services, keeps the registry in the state directory, and joins the two legs of each stream. When \
            every listener is ready it says so once on standard error. SIGHUP rereads configuration and certificates without dropping \
            a connection; SIGTERM drains and exits.
            """,
        options: [
            .config, .state,
            .value("hostname", "NAME", "a name the hub answers to; the first is the one it prints", repeats: true),
            .value("https", "ADDR:PORT", "HTTPS listener ([::]:443)", repeats: true),
            .value("mqtts", "ADDR:PORT", "MQTT listener ([::]:8883)", repeats: true),
            .value("tls-cert", "FILE", "certificate chain, leaf first, PEM", completion: .file),
            .value("tls-key", "FILE", "its private key, PEM", completion: .file),
            .value("workers", "N", "reactor threads (one for each core)"),
            .flag("check", "validate the configuration and exit"),
        ],
        examples: [
            Example(
                "iotstream hub --hostname hub.example --tls-cert certs/hub.example.full-chain.cert.pem --tls-key certs/hub.example.key.pem",
                "run a hub"),
            Example("iotstream hub --config /etc/iotstream/hub.conf --check", "look at a configuration"),
        ],
        logLevel: .info,
        run: { arguments throws(Failure) in try run(arguments) })

    /// `--config`, else the usual place if there is a file.
    private static func configPath(_ arguments: Arguments) -> String? {
        if let named = arguments.configFile { return named }
        let usual = "/etc/iotstream/hub.conf"
        return Files.exists(usual) ? usual : nil
    }

    private static func run(_ arguments: Arguments) throws(Failure) {
        let configuration = try HubConfiguration.load(path: configPath(arguments), arguments: arguments)
        let tickets = TLSTicketKeys()
        let context = try makeContext(configuration, tickets)
        for address in configuration.https + configuration.mqtts { _ = try resolve(address) }
        if arguments.flag("check") { return Output.tell("iotstream hub: configuration is valid") }
        Signals.block()  // before the first thread
        Process.harden()
        let paths = RuntimePaths(state: arguments.stateDirectory, run: Environment.nonEmpty("RUNTIME_DIRECTORY"))
        let lock = try prepare(paths)
        let registry: Registry
        let writer: GroupWriter
        do {
            var options = Store.Options()
            options.everyPage = true  // a damaged page is refused now, instead of ending the process later
            registry = try Registry.open(paths, options)
            writer = try GroupWriter(registry.store)
        } catch let error as RegistryError {
            throw .store(error)
        } catch {
            throw .system("\(error)")
        }
        defer { writer.close() }
        let telemetry = try configuration.telemetry.open(at: paths.telemetry)
        defer { telemetry.close() }
        let server = try HubServer(
            registry: registry, writer: writer, telemetry: telemetry, configuration: configuration, context: context, tickets: tickets)
        try server.run { () throws(Failure) in
            let fresh = try HubConfiguration.load(path: configPath(arguments), arguments: arguments)
            return (fresh, try makeContext(fresh, tickets))
        }
        withExtendedLifetime(lock) {}
    }

    static func makeContext(_ configuration: HubConfiguration, _ tickets: TLSTicketKeys) throws(Failure) -> TLSContext {
        guard let certificate = configuration.certificatePath, let key = configuration.keyPath else {
            let name = configuration.names.first ?? "hub.example"
            throw .config(
                "no certificate",
                "make one with 'iotstream cert gen-root' and 'iotstream cert gen-server \(name)', then give --tls-cert and --tls-key")
        }
        do throws(TLSError) {
            return try TLSContext.server(certificatePath: certificate, keyPath: key, tickets: tickets)
        } catch {
            throw .config(error.description, "check --tls-cert and --tls-key")
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

    /// Makes the directories and takes the lock that keeps a second hub out.
    private static func prepare(_ paths: RuntimePaths) throws(Failure) -> HubLock {
        do throws(SystemError) {
            try Files.makeDirectory(paths.state)
            try Files.makeDirectory(paths.run)
            try Files.makeDirectory(paths.streams)
        } catch {
            throw .errno(error.number, paths.state, "give a state directory that the hub can write with --state")
        }
        do throws(SystemError) {
            let lock = try FileLock(paths.hubLock)
            for name in (try? Files.names(in: paths.streams)) ?? [] { Files.remove("\(paths.streams)/\(name)") }
            return HubLock(lock)
        } catch {
            if error.number == EWOULDBLOCK { throw .tryAgain("\(paths.state): another hub runs here", "stop it, or give another --state") }
            throw .errno(error.number, paths.hubLock)
        }
    }
}

/// Holds the lock for as long as the hub runs.
private final class HubLock {
    private let lock: FileLock
    init(_ lock: consuming FileLock) { self.lock = lock }
}

extension Failure {
    /// A registry that cannot be opened.
    static func store(_ error: RegistryError) -> Failure {
        if case .store(let inner) = error { return Failure(exitCode: inner.exitCode, inner.description) }
        return .software(error.description)
    }
}
