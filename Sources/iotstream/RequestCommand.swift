import Console
import Glibc
import Wire

/// `iotstream request …`: the person at the device decides who gets in (an agent that runs with `--ask`).
enum RequestCommand {
    static let command = Command(
        name: "request", summary: "lists, accepts and rejects requests that wait at this device",
        details: "An agent that runs with --ask keeps each request in its run directory until a person has decided or its time is up.",
        options: [
            .value("state", "DIR", "the agent's state directory (IOTSTREAM_STATE)", completion: .directory), .json,
        ],
        subcommands: [list, accept, reject],
        examples: [Example("iotstream request reject 7f3a --reason 'machine is running'", "the service is told the reason")])

    private static func directory(_ arguments: Arguments) -> String { "\(arguments.agentRunDirectory)/requests" }

    private static let list = Command(name: "list", summary: "lists the waiting requests", run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let waiting = try StatusDirectory.documents(in: directory(arguments), suffix: ".json")
        guard !arguments.wantsJSON else { return try Output.json(.array(waiting.map(\.document))) }
        try Output.table(
            ["ID", "NAME", "TARGET", "SINCE", "UNTIL"],
            waiting.map { name, document in
                [name]
                    + ["name", "target", "since", "until"].map { key in
                        document[key].map { $0.string ?? ($0.isNull ? "" : $0.text()) } ?? ""
                    }
            })
    }

    private static let id = Operand("ID", .one, "as request list shows it")
    private static let accept = Command(name: "accept", summary: "lets a request in", operands: [id], run: runAccept)
    private static let reject = Command(
        name: "reject", summary: "turns a request away", options: [.value("reason", "TEXT", "why; the service is told")], operands: [id],
        run: runReject)

    @Sendable private static func runAccept(_ arguments: Arguments) throws(Failure) { try answer("accept", arguments) }

    @Sendable private static func runReject(_ arguments: Arguments) throws(Failure) {
        let reason = arguments.text("reason").map { " " + Printable.oneLine($0) } ?? ""
        guard reason.utf8.count <= 512 else { throw .usage("the reason is longer than 512 bytes") }
        try answer("reject" + reason, arguments)
    }

    /// Writes one line to the request's fifo; one write, shorter than the pipe's atomic size.
    private static func answer(_ line: String, _ arguments: Arguments) throws(Failure) {
        let id = try arguments.required("ID")
        let path = try StatusDirectory.path(of: id, in: directory(arguments)) + ".fifo"
        let descriptor = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor != -1 else {
            switch errno {
            case ENOENT: throw .refused("\(id): no such request", "iotstream request list shows them")
            case ENXIO: throw .refused("\(id): nobody waits for an answer any more")
            default: throw .errno(errno, path)
            }
        }
        defer { close(descriptor) }
        let bytes = Array("\(line)\n".utf8)
        guard write(descriptor, bytes, bytes.count) == bytes.count else { throw .errno(errno, path) }
    }
}
