import Console

/// `iotstream agent`: runs on a device and offers local TCP ports to those whom its hub lets through.
package enum AgentRole {
    package static let command = Command(
        name: "agent", summary: "offer this device's ports through a hub",
        details: """
            Connects to the hub that the device's connection string names, or that a provisioning service assigns, and waits for services to open streams. Only what --allow lists \
            can be reached; everything else is rejected, and the service is told so.

            The agent keeps trying for ever when the network or the hub is away. SIGHUP reads the configuration, the connection string and \
            the certificates again; running streams are not touched.
            """,
        options: [
            .config,
            .value(
                "state", "DIR", "the agent's key and, in DIR/run, requests that wait for a person (IOTSTREAM_STATE)", completion: .directory
            ),
        ] + Option.connectionString + [
            .ca,
            .value("cert", "FILE", "the device's certificate chain, for devices without a key in the connection string", completion: .file),
            .value("key", "FILE", "the certificate's private key", completion: .file),
            .value("provision", "ENDPOINT", "ask this provisioning service (host or host:port) which hub is the device's"),
            .value("id-scope", "SCOPE", "the provisioning service's id scope"),
            .value("registration-id", "ID", "the device's registration id (default: the certificate's common name)"),
            .value("key-file", "FILE", "the device's key for the provisioning service and its hub, as Base64", completion: .file),
            .value("hub-port", "PORT", "HTTPS port of hubs that the provisioning service names without one (default 443)"),
            .value("allow", "[NAME=][HOST:]PORT", "what services may reach; PORT-PORT for a range; nothing by default", repeats: true),
            .flag("ask", "a person accepts or rejects each request: see iotstream request"),
            .value("ask-timeout", "TIME", "time that the person has (default 55s)"),
            .value(
                "authorized-services", "FILE",
                "keys and certificates of the services that may come in (else authorized_services in --state)",
                completion: .file),
            .flag("fingerprint", "print the fingerprint of the device's key and end; makes the key where there is none yet"), .json,
            .value("proxy", "URL", "http://[user:pass@]host:port (else https_proxy, all_proxy and no_proxy)"),
            .value(
                "transport", "KIND", "websocket: port 443 is enough (default); mqtt: port 8883",
                completion: .words(["websocket", "mqtt"])),
            .value("mqtt-port", "PORT", "the hub's MQTT port for --transport mqtt (default 8883)"),
            .value("max-streams", "N", "streams at the same time (default 2000)"),
            .value("warm", "N", "keep connections to the hub ready for N new streams, up to 64 (default 0)"),
        ],
        examples: [
            Example(
                "iotstream agent --connection-string-file /etc/iotstream/device.connection-string --allow 22", "offer ssh"),
            Example("iotstream agent --config /etc/iotstream/agent.conf", "as a service does"),
            Example(
                "iotstream agent --provision dps.example --id-scope 0ne00012345 --registration-id press-17 --key-file press-17.key --allow 22",
                "go where a provisioning service says"),
            Example("iotstream agent --fingerprint", "to compare with what forward shows at the first stream"),
        ], logLevel: .info,
        run: run)

    @Sendable private static func run(_ arguments: Arguments) throws(Failure) {
        if arguments.flag("fingerprint") { return try showFingerprint(arguments) }
        let settings = try AgentSettings(arguments)
        try Agent(settings) { () throws(Failure) in try AgentSettings(arguments) }.run()
    }

    /// Needs no connection string, so that a key can be compared before the device is anybody's.
    private static func showFingerprint(_ arguments: Arguments) throws(Failure) {
        let top = try AgentSettings.configuration(arguments.configFile)?.top
        let identity = try AgentTrust.identity(arguments, top, name: "device").current.identity
        guard arguments.wantsJSON else { return try Output.line(identity.fingerprint.description) }
        try Output.json(.object(of: ["fingerprint": .string(identity.fingerprint.description)]))
    }
}
