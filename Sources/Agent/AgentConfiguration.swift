import Wire

/// The agent's configuration file; what an option of the same name says goes before it, except that `allow` adds up.
enum AgentConfiguration {
    static let schema = ConfigurationSchema(keys: [
        .init("connection-string-file", .text),
        .init("ca", .text),
        .init("cert", .text),
        .init("key", .text),
        .init("provision", .text),
        .init("id-scope", .text),
        .init("registration-id", .text),
        .init("key-file", .text),
        .init("hub-port", .integer(1...65535)),
        .list("allow"),
        .init("ask", .boolean),
        .init("ask-timeout", .seconds),
        .list("hub"),
        .init("proxy", .text),
        .init("transport", .choice(["websocket", "mqtt"])),
        .init("mqtt-port", .integer(1...65535)),
        .init("max-streams", .integer(1...1_000_000)),
        .init("token-lifetime", .seconds),
        .init("drain-seconds", .seconds),
        .init("warm", .integer(0...64)),
        .init("state", .text),
        .init("authorized-services", .text),
    ])
}
