import Console
import Wire

/// `iotstream linked-hub …`: the hubs that a provisioning service assigns devices to.
enum LinkedHubCommand {
    static let command = Command(
        name: "linked-hub", summary: "says which hubs a provisioning service assigns devices to",
        details: """
            Acts on the state directory of the provisioning service when no connection string of it is given, else on the service over its \
            REST API, which needs a policy with ServiceConfig. What the service is to reach the hub by needs a policy of the hub with \
            RegistryWrite and ServiceConnect; it is kept, and never shown.
            """,
        options: Administration.options, subcommands: [add, update, list, delete],
        examples: [
            Example("iotstream linked-hub add @prod-hub.connection", "links a hub by the connection string in a file"),
            Example("iotstream linked-hub update prod-hub.example --weight 3", "it gets three times the devices of the others"),
        ])

    private static let hub = Operand("NAME", .one, "the hub's name, as devices are told it")
    private static let settings: [Option] = [
        .value("weight", "N", "its part of the devices that are spread over hubs, 1 to 1000 (1)"),
        .value("latency", "MILLISECONDS", "how far it is from its devices, for geoLatency"),
        .value("location", "TEXT", "where it is, for people"),
        .flag("named-only", "gets only devices whose enrollment names it"), .flag("always", "takes part wherever no hub is named"),
    ]

    private static let add = Command(
        name: "add", summary: "links a hub",
        options: settings + [.value("name", "NAME", "what devices are told (else the host of the connection string)")],
        operands: [Operand("STRING", .one, "connection string of a policy of the hub, or better @FILE", completion: .file)], run: runAdd)

    @Sendable private static func runAdd(_ arguments: Arguments) throws(Failure) {
        let word = try arguments.required("STRING")
        let text = word.hasPrefix("@") ? try SecretFile.connectionString(String(word.dropFirst()), role: arguments.role) : word
        let connection: ConnectionString
        do throws(ConnectionStringError) { connection = try ConnectionString(parsing: text) } catch { throw .data("\(error)") }
        var document: JSONValue = ["connectionString": .string(text)]
        try take(arguments, into: &document)
        let name = arguments.text("name") ?? connection.host.host
        let stored = try ProvisioningPlace.find(arguments).send("PUT", ["linkedHubs", name], document)
        if arguments.wantsJSON { try Output.json(stored) }
    }

    private static let update = Command(
        name: "update", summary: "changes what is named, for registrations to come", options: settings, operands: [hub], run: runUpdate)

    @Sendable private static func runUpdate(_ arguments: Arguments) throws(Failure) {
        let place = try ProvisioningPlace.find(arguments), path = ["linkedHubs", try arguments.required("NAME")]
        var document = try place.send("GET", path)
        try take(arguments, into: &document)
        let stored = try place.send("PUT", path, document)
        if arguments.wantsJSON { try Output.json(stored) }
    }

    private static func take(_ arguments: Arguments, into document: inout JSONValue) throws(Failure) {
        for (option, member, range) in [("weight", "allocationWeight", 1...1000), ("latency", "latencyMilliseconds", 0...100_000)] {
            if let number = try arguments.integer(option, in: range) { document[member] = .integer(Int64(number)) }
        }
        if let text = arguments.text("location") { document["location"] = .string(text) }
        if arguments.flag("named-only") { document["applyAllocationPolicy"] = false }
        if arguments.flag("always") { document["applyAllocationPolicy"] = true }
    }

    private static let list = Command(name: "list", summary: "lists the linked hubs", run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let found = try ProvisioningPlace.find(arguments).send("GET", ["linkedHubs"])
        guard !arguments.wantsJSON else { return try Output.json(found) }
        try Output.table(
            ["NAME", "WEIGHT", "LATENCY", "TAKES", "REACHED AT", "POLICY", "LOCATION"],
            (found.array ?? []).map { hub in
                [
                    hub["name"]?.string ?? "", hub["allocationWeight"]?.text() ?? "",
                    hub["latencyMilliseconds"].map { "\($0.text()) ms" } ?? "",
                    hub["applyAllocationPolicy"]?.bool == false ? "named" : "all", hub["host"]?.string ?? "", hub["policy"]?.string ?? "",
                    hub["location"]?.string ?? "",
                ]
            })
    }

    private static let delete = Command(
        name: "delete", summary: "unlinks a hub; its devices stay in it", options: [.yes], operands: [hub], run: runDelete)

    @Sendable private static func runDelete(_ arguments: Arguments) throws(Failure) {
        let place = try ProvisioningPlace.find(arguments), name = try arguments.required("NAME")
        try Prompt.confirm("unlink hub \(name)?", arguments)
        _ = try place.send("DELETE", ["linkedHubs", name])
    }
}
