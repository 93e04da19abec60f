import Bytes
import Console
import Registry
import Wire

/// `iotstream device …`: the devices of a hub.
enum DeviceCommand {
    static let command = Command(
        name: "device", summary: "creates, shows and changes devices",
        details: """
            Acts on the hub's state directory when no connection string is given (a running hub sees the change at once), else on the hub \
            over its REST API, which needs a policy with RegistryRead or RegistryWrite.
            """,
        options: Administration.options,
        subcommands: [create, show, list, delete, enable, disable, rotateKey, connectionString, importCommand, exportCommand],
        examples: [
            Example("iotstream device create press-17", "creates a device and prints its connection string"),
            Example(
                "iotstream device list --query \"SELECT * FROM devices WHERE tags.plant = 'R43'\"", "finds devices by their twins"),
            Example("iotstream device disable press-17 --reason stolen", "keeps it out, and cuts its connection within a second"),
        ])

    private static let id = Operand("ID", .one, "the device")

    // MARK: - create

    private static let create = Command(
        name: "create", summary: "creates a device and prints its connection string",
        options: Attestation.options + [
            .flag("edge", "it is a gateway for other devices"),
            .value("parent", "ID", "the gateway that it stands behind"), ConnectionStrings.hostname,
        ],
        operands: [id], run: runCreate)

    @Sendable private static func runCreate(_ arguments: Arguments) throws(Failure) {
        let name = try ClientIdentity.device(try arguments.required("ID"))
        let authentication = try Attestation.authentication(arguments)
        let hub = try Administration.find(arguments)
        let host = try hub.hubHost(arguments)
        var document: JSONValue = ["deviceId": .string(name.deviceID), "authentication": authentication]
        if arguments.flag("edge") { document["capabilities"] = ["iotEdge": true] }
        if let parent = arguments.text("parent") {
            let gateway = try hub.identity(try .device(parent))
            guard gateway["capabilities"]?["iotEdge"]?.bool == true, let scope = gateway["deviceScope"]?.string else {
                throw .refused("\(parent) is no gateway", "create it with --edge")
            }
            if arguments.flag("edge") { document["parentScopes"] = [.string(scope)] } else { document["deviceScope"] = .string(scope) }
        }
        let stored = try hub.put(name, document)
        let text = try ConnectionStrings.of(name, stored, host: host)
        guard arguments.wantsJSON else { return try Output.line(text) }
        var result = stored
        result["connectionString"] = .string(text)
        try Output.json(result)
    }

    // MARK: - show, list

    private static let show = Command(name: "show", summary: "shows a device", operands: [id], run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        let name = try ClientIdentity.device(try arguments.required("ID"))
        try IdentityListing.show(try Administration.find(arguments).identity(name), arguments)
    }

    private static let list = Command(
        name: "list", summary: "lists the devices, or what a query finds",
        options: [.value("query", "SQL", "a query over twins, see iotstream-query(7); over REST it needs ServiceConnect")], run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        if let query = arguments.text("query") { return try runQuery(query, arguments) }
        var listing = IdentityListing(arguments)
        do throws(Failure) {
            try Administration.find(arguments).forEachDevice { document throws(Failure) in try listing.add(document) }
        } catch {
            if !listing.isEmpty { try listing.finish() }  // a result, as far as it goes
            throw error
        }
        try listing.finish()
    }

    private static func runQuery(_ query: String, _ arguments: Arguments) throws(Failure) {
        var listing = QueryListing(arguments)
        do throws(Failure) {
            try Administration.find(arguments).forEachPage(of: query) { rows throws(Failure) in listing.add(rows) }
        } catch {
            if !listing.isEmpty { try listing.finish() }
            throw error
        }
        try listing.finish()
    }

    // MARK: - changes

    private static let delete = Command(
        name: "delete", summary: "deletes a device with its modules and its twin", options: [.yes], operands: [id], run: runDelete)

    @Sendable private static func runDelete(_ arguments: Arguments) throws(Failure) {
        let name = try ClientIdentity.device(try arguments.required("ID"))
        let hub = try Administration.find(arguments)
        try Prompt.confirm("delete device \(name)?", arguments)
        try hub.delete(name)
    }

    private static let enable = Command(name: "enable", summary: "lets a device connect again", operands: [id], run: runEnable)
    private static let disable = Command(
        name: "disable", summary: "keeps a device out and cuts its connection",
        options: [.value("reason", "TEXT", "why, for whoever looks")],
        operands: [id], run: runDisable)

    @Sendable private static func runEnable(_ arguments: Arguments) throws(Failure) {
        try Administration.find(arguments).setStatus(try arguments.required("ID"), enabled: true, reason: nil)
    }

    @Sendable private static func runDisable(_ arguments: Arguments) throws(Failure) {
        try Administration.find(arguments).setStatus(try arguments.required("ID"), enabled: false, reason: arguments.text("reason"))
    }

    private static let rotateKey = Command(
        name: "rotate-key", summary: "makes a key anew, and prints the connection string with it",
        options: KeySlot.options + [ConnectionStrings.hostname], operands: [id], run: runRotateKey)

    @Sendable private static func runRotateKey(_ arguments: Arguments) throws(Failure) {
        let name = try ClientIdentity.device(try arguments.required("ID"))
        let slot = try KeySlot(arguments)
        let hub = try Administration.find(arguments)
        let host = try hub.hubHost(arguments)
        let document = try hub.rotateKey(name, slot)
        guard !arguments.wantsJSON else { return try Output.json(document) }
        try Output.line(try ConnectionStrings.of(name, document, host: host, secondary: slot == .secondary))
    }

    private static let connectionString = Command(
        name: "connection-string", summary: "prints a device's connection string",
        options: [.flag("secondary", "with the secondary key"), ConnectionStrings.hostname], operands: [id], run: runConnectionString)

    @Sendable private static func runConnectionString(_ arguments: Arguments) throws(Failure) {
        let name = try ClientIdentity.device(try arguments.required("ID"))
        let hub = try Administration.find(arguments)
        let text = try ConnectionStrings.of(
            name, try hub.identity(name), host: try hub.hubHost(arguments), secondary: arguments.flag("secondary"))
        try arguments.wantsJSON ? Output.json(["connectionString": .string(text)]) : Output.line(text)
    }

    // MARK: - import, export

    private static let importCommand = Command(
        name: "import", summary: "imports JSON lines, the service API's import and export format",
        operands: [Operand("FILE", .one, "the lines; - is standard input", completion: .file)], run: Transfer.runImport)
    private static let exportCommand = Command(
        name: "export", summary: "exports every device and module as JSON lines, with their keys",
        operands: [Operand("FILE", .optional, "a new file, mode 0600; else standard output", completion: .file)], run: Transfer.runExport)
}

extension KeySlot {
    static let options: [Option] = [
        .flag("primary", "a new primary key (the default)"), .flag("secondary", "a new secondary key"),
        .flag("swap", "no new key: the two change places"),
    ]

    /// The one of `--primary`, `--secondary` and `--swap` that is there.
    init(_ arguments: Arguments) throws(Failure) {
        let given = ["primary", "secondary", "swap"].filter(arguments.flag)
        guard given.count <= 1 else { throw .usage("--\(given[0]) and --\(given[1]) together", "give one of them") }
        self = given.first.flatMap { KeySlot(rawValue: $0) } ?? .primary
    }
}
