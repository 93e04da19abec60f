import Console
import Wire

/// `iotstream bench`: the way to a device, measured hop by hop.
package enum BenchRole {
    package static let command = Command(
        name: "bench", summary: "measure the way to a device, hop by hop",
        details: """
            Measures what it takes to reach the hub (name, TCP, TLS), to open streams to the device, and to get bytes there and back: the \
            time of each part, round trips, and the throughput each way. Needs the device's agent to offer its own measuring service, by \
            --allow bench or the line `allow bench` in its configuration.

            With another REMOTE only the opening of streams is measured, and with --echo round trips as well: REMOTE must then send back \
            what it gets. Exit status as for connect.
            """,
        options: ServiceSettings.options + [
            StreamMode.option, .value("seconds", "S", "how long the throughput is measured, each way (default 3; 0: not at all)"),
            .value("count", "N", "streams opened one after the other (default 20)"),
            .value("warm", "N", "keep connections to the hub ready for N new streams, as forward --warm does (default 0)"),
            .flag("echo", "REMOTE sends back what it gets: measure round trips with it"), .json,
        ],
        operands: [
            Operand("DEVICE", .one, "the device's id"),
            Operand("REMOTE", .optional, "a port, or a name that the agent offers (default bench: the measuring service)"),
        ],
        examples: [
            Example("iotstream bench press-17", "everything, where the agent runs with --allow bench"),
            Example("iotstream bench press-17 --mode websocket --json", "through a WebSocket, for a program to read"),
            Example("iotstream bench press-17 22", "how long it takes to open a stream to sshd"),
        ],
        run: { arguments throws(Failure) in try run(arguments) })

    /// What a person asked for.
    struct Plan: Sendable {
        var target: StreamTarget
        var seconds: Int
        var count: Int
        /// REMOTE is the agent's measuring service, or at least sends back what it gets.
        var isMeasuringService: Bool
        var isEcho: Bool
    }

    private static func run(_ arguments: Arguments) throws(Failure) {
        let client = try StreamTarget.client(arguments.required("DEVICE"), module: arguments.text("module"))
        let remote = try ConnectRole.remote(arguments.operandList("REMOTE").first ?? "bench"), isEcho = arguments.flag("echo")
        let plan = Plan(
            target: StreamTarget(client: client, remote: remote), seconds: try arguments.integer("seconds", in: 0...3600) ?? 3,
            count: try arguments.integer("count", in: 1...10_000) ?? 20, isMeasuringService: remote == "bench" && !isEcho,
            isEcho: isEcho)
        let report = try Benchmarking(ServiceSettings(arguments), plan).run()
        if arguments.wantsJSON { try Output.json(report.document) } else { try report.print() }
    }
}
