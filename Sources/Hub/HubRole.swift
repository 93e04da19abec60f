import Console
import LinuxIO
import Registry
import Serving
import Store
import TLS

/// `iotstream hub`: registry, device endpoint, service API and streaming endpoint in one process.
package enum HubRole {
    /// Makes a provisioning service that shares the hub's listeners and state directory.
    ///
    /// - Parameter configuration: its file; nil: the usual one.
    package typealias Join =
        @Sendable (_ host: ServerCore, _ paths: RuntimePaths, _ configuration: String?) throws(Failure) -> Guest

    /// - Parameter check: throws where such a service's configuration is wrong.
    package static func command(
        check: @escaping @Sendable (_ configuration: String?) throws(Failure) -> Void, join: @escaping Join
    ) -> Command {
        Command(
            name: "hub", summary: "run the hub: registry, device endpoint, service API and streaming endpoint",
            details: """
                Listens for devices and services, keeps the registry in the state directory, and joins the two legs of each stream. When \
                every listener is ready it says so once on standard error. SIGHUP rereads configuration and certificates without dropping \
                a connection; SIGTERM drains and exits.
                """,
            options: ServingSettings.options(of: "hub") + [
                .flag("with-dps", "run the provisioning service, too, on the same ports"),
                .value("dps-config", "FILE", "its configuration file (/etc/iotstream/dps.conf)", completion: .file),
            ],
            examples: [
                Example(
                    "iotstream hub --hostname hub.example --tls-cert certs/hub.example.full-chain.cert.pem --tls-key certs/hub.example.key.pem",
                    "run a hub"),
                Example("iotstream hub --config /etc/iotstream/hub.conf --check", "look at a configuration"),
            ],
            logLevel: .info,
            run: { arguments throws(Failure) in try run(arguments, check, join) })
    }

    private static func run(_ arguments: Arguments, _ check: (String?) throws(Failure) -> Void, _ join: Join) throws(Failure) {
        let configuration = try HubConfiguration.load(arguments)
        let tickets = TLSTicketKeys()
        let context = try configuration.serving.makeContext(tickets)
        let isJoined = arguments.flag("with-dps")
        if isJoined { try check(arguments.text("dps-config")) }
        if arguments.flag("check") { return Output.tell("iotstream hub: configuration is valid") }
        Signals.block()  // before the first thread
        Process.harden()
        let paths = RuntimePaths(state: arguments.stateDirectory, run: Environment.nonEmpty("RUNTIME_DIRECTORY"))
        let lock = try prepare(paths)
        let audit = try configuration.serving.auditLog(at: paths.audit, by: "hub")
        defer { audit.close() }
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
        let server = try Server("hub", configuration.serving, context, tickets, audit: audit)
        let guest = isJoined ? try join(server.core, paths, arguments.text("dps-config")) : nil
        let hub = try HubServer(
            registry: registry, writer: writer, telemetry: telemetry, configuration: configuration, server: server, guest: guest
        ) { () throws(Failure) in try HubConfiguration.load(arguments) }
        try hub.run()
        withExtendedLifetime(lock) {}
    }

    /// Makes the directories and takes the lock that keeps a second hub out.
    private static func prepare(_ paths: RuntimePaths) throws(Failure) -> RoleLock {
        do throws(SystemError) {
            try Files.makeDirectory(paths.state)
            try Files.makeDirectory(paths.run)
            try Files.makeDirectory(paths.streams)
        } catch {
            throw .errno(error.number, paths.state, "give a state directory that the hub can write with --state")
        }
        let lock = try RoleLock(paths.hubLock, of: "hub", in: paths.state)
        for name in (try? Files.names(in: paths.streams)) ?? [] { Files.remove("\(paths.streams)/\(name)") }
        return lock
    }
}

extension Failure {
    /// A registry that cannot be opened.
    static func store(_ error: RegistryError) -> Failure {
        if case .store(let inner) = error { return Failure(exitCode: inner.exitCode, inner.description) }
        return .software(error.description)
    }
}
