import Console
import Wire

/// `iotstream connect`: a port of a device as standard input and output.
package enum ConnectRole {
    package static let command = Command(
        name: "connect", summary: "join standard input and output with a port of a device",
        details: """
            Opens one stream to REMOTE, a port or a name that the device's agent offers, and joins it with standard input and output; \
            made for ssh's ProxyCommand. The end of standard input is the end of that direction only. Ends when the stream has: with 0 \
            after an orderly end, 1 when the device refused it or it broke, 69 when the hub cannot be reached, 77 when it is not permitted.
            """,
        options: ServiceSettings.options + [StreamMode.option, ForwardRole.fingerprint, .json],
        operands: [
            Operand("DEVICE", .one, "the device's id"), Operand("REMOTE", .one, "a port, or a name that the agent offers"),
        ],
        examples: [
            Example("ssh -o ProxyCommand='iotstream connect %n %p' user@press-17", "ssh to the device"),
            Example("iotstream connect press-17 8080 < request.http", "any protocol"),
        ],
        run: { arguments throws(Failure) in try run(arguments) })

    private static func run(_ arguments: Arguments) throws(Failure) {
        if arguments.flag("fingerprint") { return try ForwardRole.showFingerprint(arguments) }
        let client = try StreamTarget.client(arguments.required("DEVICE"), module: arguments.text("module"))
        let target = StreamTarget(client: client, remote: try remote(arguments.required("REMOTE")))
        try Connecting(ServiceSettings(arguments), target: target).run()
    }

    /// One port or name, in the form that the device's agent knows.
    static func remote(_ word: String) throws(Failure) -> String {
        let mappings: [PortMapping]
        do throws(PortMapping.Malformed) { mappings = try PortMapping.parse(word) } catch { throw .usage("\(word): \(error.reason)") }
        guard mappings.count == 1, !word.utf8.contains(UInt8(ascii: ":")) else { throw .usage("\(word): not one port or name") }
        return mappings[0].remote
    }
}
