import Console
import Wire

/// `iotstream module …`: the modules of a device.
enum ModuleCommand {
    static let command = Command(
        name: "module", summary: "creates, shows and deletes modules of a device",
        options: Administration.options, subcommands: [create, show, list, delete],
        examples: [Example("iotstream module create press-17 thermostat", "creates a module and prints its connection string")])

    private static let names = [Operand("DEVICE", .one, "the device"), Operand("MODULE", .one, "the module")]

    private static func name(_ arguments: Arguments) throws(Failure) -> ClientIdentity {
        try .device(try arguments.required("DEVICE"), module: try arguments.required("MODULE"))
    }

    private static let create = Command(
        name: "create", summary: "creates a module and prints its connection string",
        options: Attestation.options + [ConnectionStrings.hostname],
        operands: names, run: runCreate)

    @Sendable private static func runCreate(_ arguments: Arguments) throws(Failure) {
        let name = try name(arguments)
        let authentication = try Attestation.authentication(arguments)
        let hub = try Administration.find(arguments)
        let host = try hub.hubHost(arguments)
        let members: JSONValue = [
            "deviceId": .string(name.deviceID), "moduleId": .string(name.moduleID ?? ""), "authentication": authentication,
        ]
        var document = try hub.put(name, members)
        let text = try ConnectionStrings.of(name, document, host: host)
        guard arguments.wantsJSON else { return try Output.line(text) }
        document["connectionString"] = .string(text)
        try Output.json(document)
    }

    private static let show = Command(name: "show", summary: "shows a module", operands: names, run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        let name = try name(arguments)
        try IdentityListing.show(try Administration.find(arguments).identity(name), arguments)
    }

    private static let list = Command(name: "list", summary: "lists a device's modules", operands: [names[0]], run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let device = try ClientIdentity.device(try arguments.required("DEVICE"))
        var listing = IdentityListing(arguments)
        for document in try Administration.find(arguments).modules(of: device.deviceID) { try listing.add(document) }
        try listing.finish()
    }

    private static let delete = Command(
        name: "delete", summary: "deletes a module", options: [.yes], operands: names, run: runDelete)

    @Sendable private static func runDelete(_ arguments: Arguments) throws(Failure) {
        let name = try name(arguments)
        let hub = try Administration.find(arguments)
        try Prompt.confirm("delete module \(name)?", arguments)
        try hub.delete(name)
    }
}
