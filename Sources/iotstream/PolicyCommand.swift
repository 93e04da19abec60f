import Console
import Registry
import Wire

/// `iotstream policy …`: what services may do.
enum PolicyCommand {
    static let command = Command(
        name: "policy", summary: "manages the policies by which services get in",
        details: "A policy is a name, rights and two keys. The rights are RegistryRead, RegistryWrite, ServiceConnect and DeviceConnect.",
        options: Administration.options, subcommands: [list, create, delete, rotate, connectionString],
        examples: [
            Example("iotstream policy create operators --rights ServiceConnect", "who holds its key may open streams, and nothing else")
        ])

    private static let name = Operand("NAME", .one, "the policy")

    private static let list = Command(name: "list", summary: "lists the policies; their keys only with --json", run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let policies = try Administration.find(arguments).policies()
        guard !arguments.wantsJSON else { return try Output.json(.array(policies)) }
        try Output.table(["NAME", "RIGHTS"], policies.map { [$0["keyName"]?.string ?? "", $0["rights"]?.string ?? ""] })
    }

    private static let create = Command(
        name: "create", summary: "creates a policy and prints its connection string",
        options: [.value("rights", "LIST", "what it allows, with commas between", repeats: true), ConnectionStrings.hostname],
        operands: [name], run: runCreate)

    @Sendable private static func runCreate(_ arguments: Arguments) throws(Failure) {
        let rights = arguments.list("rights").joined(separator: ",")
        guard !rights.isEmpty else {
            throw .usage("--rights is missing", "name some of RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect")
        }
        let hub = try Administration.find(arguments)
        let host = try hub.hubHost(arguments)
        try printed(try hub.createPolicy(try arguments.required("NAME"), rights: rights), host, arguments)
    }

    private static let delete = Command(
        name: "delete", summary: "deletes a policy; its keys are good for nothing from then on",
        options: [.yes, .flag("force", "even the last one that may change the registry")], operands: [name], run: runDelete)

    @Sendable private static func runDelete(_ arguments: Arguments) throws(Failure) {
        let name = try arguments.required("NAME")
        let hub = try Administration.find(arguments)
        try Prompt.confirm("delete policy \(name)?", arguments)
        try hub.deletePolicy(name, force: arguments.flag("force"))
    }

    private static let rotate = Command(
        name: "rotate", summary: "makes a key anew, and prints the connection string with it",
        options: KeySlot.options + [ConnectionStrings.hostname], operands: [name], run: runRotate)

    @Sendable private static func runRotate(_ arguments: Arguments) throws(Failure) {
        let slot = try KeySlot(arguments)
        let hub = try Administration.find(arguments)
        let host = try hub.hubHost(arguments)
        try printed(try hub.rotatePolicy(try arguments.required("NAME"), slot), host, arguments, secondary: slot == .secondary)
    }

    private static let connectionString = Command(
        name: "connection-string", summary: "prints a policy's connection string",
        options: [.flag("secondary", "with the secondary key"), ConnectionStrings.hostname], operands: [name], run: runConnectionString)

    @Sendable private static func runConnectionString(_ arguments: Arguments) throws(Failure) {
        let hub = try Administration.find(arguments)
        let policy = try hub.policy(try arguments.required("NAME"))
        let text = try ConnectionStrings.of(policy: policy, host: try hub.hubHost(arguments), secondary: arguments.flag("secondary"))
        try arguments.wantsJSON ? Output.json(["connectionString": .string(text)]) : Output.line(text)
    }

    private static func printed(
        _ policy: JSONValue, _ host: HostPort, _ arguments: Arguments, secondary: Bool = false
    ) throws(Failure) {
        let text = try ConnectionStrings.of(policy: policy, host: host, secondary: secondary)
        guard arguments.wantsJSON else { return try Output.line(text) }
        var result = policy
        result["connectionString"] = .string(text)
        try Output.json(result)
    }
}
