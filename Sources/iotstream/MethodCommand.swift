import Console
import Registry
import Wire

/// `iotstream method …`: direct methods of devices and modules.
enum MethodCommand {
    static let command = Command(
        name: "method", summary: "calls a direct method of a device", options: Administration.options, subcommands: [invoke],
        examples: [
            Example("iotstream method invoke press-17 reboot", "prints what the device answers"),
            Example("iotstream method invoke press-17 setSpeed '{\"rpm\":900}' --timeout 10", "with a payload, and less patience"),
        ])

    private static let invoke = Command(
        name: "invoke", summary: "calls a method and prints the device's answer",
        details: """
            The payload is JSON, or @FILE for JSON in a file; without one it is null. What the device answered is printed as JSON. A status of \
            the device's that is not 200 to 299 makes the exit status 1 and is named on standard error; with --json the status is part of \
            what is printed.
            """,
        options: [
            .value("timeout", "SECONDS", "how long the device may take to answer, 5 to 300 (30)"),
            .value("connect-timeout", "SECONDS", "how long to wait until the device is connected, 0 to 300 (0)"),
            .value("module", "MODULE", "a module of the device"),
        ],
        operands: [
            Operand("ID", .one, "the device, or DEVICE/MODULE"), Operand("NAME", .one, "the method"),
            Operand("JSON", .optional, "the payload, or @FILE"),
        ],
        run: run)

    @Sendable private static func run(_ arguments: Arguments) throws(Failure) {
        let name = try ClientIdentity.named(by: arguments, "ID")
        let payload = try arguments.operand("JSON").map { word throws(Failure) in try JSONArgument.value(word) }
        let connectSeconds = try arguments.seconds("connect-timeout", in: 0...300) ?? 0
        let responseSeconds = try arguments.seconds("timeout", in: 5...300) ?? 30
        let method = try arguments.required("NAME")
        let request = try asking { () throws(RegistryError) in
            try MethodRequest(
                name: method, payload: payload ?? .null, connectSeconds: connectSeconds, responseSeconds: responseSeconds)
        }
        let answer = try Administration.find(arguments).running(arguments).send(
            "POST", ["twins"] + name.segments.dropFirst() + ["methods"], request.json,
            answerWithinSeconds: connectSeconds + responseSeconds + 30)
        guard let status = answer["status"]?.integer else { throw .unreachable("the hub's answer has no status") }
        try Output.json(arguments.wantsJSON ? answer : answer["payload"] ?? .null)
        if !arguments.wantsJSON, !(200..<300).contains(status) {
            try Output.flush()
            throw .refused("\(name.clientID) answered with status \(status)")
        }
    }
}
