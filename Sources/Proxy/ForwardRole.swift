import Console
import Wire

/// `iotstream forward`: local ports that are ports of a device.
package enum ForwardRole {
    package static let command = Command(
        name: "forward", summary: "make ports of a device local ones",
        details: """
            Listens on a local port for each REMOTE, and carries every connection that comes in to that port of the device, each as a \
            stream of its own. REMOTE is a port, a range such as 30000-30010, or a name that the device's agent offers. LOCAL is REMOTE \
            itself, or 2200 more when that is below 1024: 22 becomes 2222. A default that is taken gives way to a free port; one that \
            you ask for does not. 0 picks a free one.

            Needs neither the hub nor the device at its start. SIGHUP reads the connection string and the configuration again; \
            SIGTERM and Ctrl-C let running connections come to their end for a while.
            """,
        options: ServiceSettings.options + [
            .value("bind", "ADDR", "listen on this address (default 127.0.0.1); * is every address"),
            .value("warm", "N", "keep connections to the hub ready for N new streams, up to 64 (default 0)"),
            StreamMode.option, fingerprint, .json,
        ],
        operands: [
            Operand("DEVICE", .one, "the device's id"),
            Operand("[LOCAL:]REMOTE", .oneOrMore, "a port, a range of ports, or a name that the agent offers"),
        ],
        examples: [
            Example("iotstream forward press-17 22", "then: ssh -p 2222 user@127.0.0.1"),
            Example("iotstream forward press-17 8080:80 30000-30010", "a web server, and eleven ports under their own numbers"),
        ],
        logLevel: .notice,
        run: { arguments throws(Failure) in try run(arguments) })

    static let fingerprint = Option.flag(
        "fingerprint", "print the fingerprint of this service's key and end; makes the key where there is none yet", standsAlone: true)

    private static func run(_ arguments: Arguments) throws(Failure) {
        if arguments.flag("fingerprint") { return try showFingerprint(arguments) }
        let client = try StreamTarget.client(arguments.required("DEVICE"), module: arguments.text("module"))
        let mappings = try mappings(arguments.operandList("[LOCAL:]REMOTE"))
        let settings = try ServiceSettings(arguments)
        let bind = settings.bind ?? "127.0.0.1"
        guard let address = BindAddress(bind) else { throw .usage("--bind \(bind): not an IP address") }
        let forwarding = try Forwarding(settings, client: client, mappings: mappings, address: address, wantsJSON: arguments.wantsJSON) {
            () throws(Failure) in try ServiceSettings(arguments)
        }
        try forwarding.run()
    }

    /// For `authorized_services` of an agent.
    static func showFingerprint(_ arguments: Arguments) throws(Failure) {
        let text = try ServiceTrust.identity(arguments, ProxyConfiguration.load(arguments)?.top).fingerprint.description
        guard arguments.wantsJSON else { return try Output.line(text) }
        try Output.json(.object(of: ["fingerprint": .string(text)]))
    }

    static func mappings(_ words: [String]) throws(Failure) -> [PortMapping] {
        var all: [PortMapping] = []
        for word in words {
            do throws(PortMapping.Malformed) { all += try PortMapping.parse(word) } catch { throw .usage("\(word): \(error.reason)") }
            guard all.count <= PortMapping.limit else { throw .usage("more than \(PortMapping.limit) ports") }
        }
        return all
    }
}
