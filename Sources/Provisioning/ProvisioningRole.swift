import Console
import Enrollments
import LinuxIO
import Serving
import Store
import TLS

/// `iotstream dps`: tells devices which hub is theirs, and the hub of its devices.
package enum ProvisioningRole {
    package static let command = Command(
        name: "dps", summary: "run the provisioning service, which assigns devices to hubs",
        details: """
            Devices that know nothing but this service, their id and their key or certificate register here; the service looks for \
            their enrollment, creates them in a linked hub, and tells them which. When every listener is ready it says so once on \
            standard error. SIGHUP rereads configuration and certificates; SIGTERM drains and exits.
            """,
        options: ServingSettings.options(of: "service") + [
            .value("id-scope", "SCOPE", "the id scope that devices name (made at the first start)"),
            .value("hub-ca", "FILE", "root that linked hubs' certificates chain to (else the system's)", completion: .file),
        ],
        examples: [
            Example(
                "iotstream dps --hostname dps.example --tls-cert certs/dps.example.full-chain.cert.pem --tls-key certs/dps.example.key.pem",
                "run a provisioning service")
        ],
        logLevel: .info,
        run: { arguments throws(Failure) in try run(arguments) })

    private static func run(_ arguments: Arguments) throws(Failure) {
        let configuration = try ProvisioningConfiguration.load(file: arguments.configFile, arguments)
        let tickets = TLSTicketKeys()
        let context = try configuration.serving.makeContext(tickets)
        if arguments.flag("check") { return Output.tell("iotstream dps: configuration is valid") }
        Signals.block()  // before the first thread
        Process.harden()
        let paths = RuntimePaths(state: arguments.stateDirectory, run: Environment.nonEmpty("RUNTIME_DIRECTORY"))
        do throws(SystemError) {
            try Files.makeDirectory(paths.state)
            try Files.makeDirectory(paths.run)
        } catch {
            throw .errno(error.number, paths.state, "give a state directory that the service can write with --state")
        }
        let lock = try RoleLock(paths.dpsLock, of: "provisioning service", in: paths.state)
        let audit = try configuration.serving.auditLog(at: paths.audit, by: "dps")
        defer { audit.close() }
        let server = try Server("dps", configuration.serving, context, tickets, audit: audit)
        let provisioning = try ProvisioningServer(paths, configuration, server.core, lock: lock) { () throws(Failure) in
            try ProvisioningConfiguration.load(file: arguments.configFile, arguments)
        }
        try server.run(provisioning)
    }

    /// Throws where the configuration of a service that is a part of a hub is wrong.
    package static func check(configuration file: String?) throws(Failure) { _ = try own(file) }

    /// What the file says alone: names and listeners on the hub's command line are not the service's.
    private static func own(_ file: String?) throws(Failure) -> ProvisioningConfiguration {
        try ProvisioningConfiguration.load(file: file, Arguments(role: "dps", path: "dps"))
    }

    /// The service as a part of a hub: behind the hub's listeners, in its state directory.
    package static func join(_ host: ServerCore, at paths: RuntimePaths, configuration file: String?) throws(Failure) -> Guest {
        let load = { () throws(Failure) in
            var loaded = try own(file)
            if !loaded.namesItself { loaded.serving.names = host.names }
            return loaded
        }
        let lock = try RoleLock(paths.dpsLock, of: "provisioning service", in: paths.state)
        let made = try ProvisioningServer(paths, try load(), host, lock: lock, read: load)
        return Guest(role: made, neighbour: made.core)
    }
}
