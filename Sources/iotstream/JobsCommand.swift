import Console
import Registry
import Wire

/// `iotstream job …`: one thing that is done to many devices.
enum JobsCommand {
    static let command = Command(
        name: "job", summary: "changes twins or calls methods of many devices",
        details: """
            A job is done to every device that meets a condition when the job begins. It goes on when the hub is started again. Over REST \
            this needs a policy with ServiceConnect.
            """,
        options: Administration.options, subcommands: [createTwinUpdate, createMethod, list, show, cancel],
        examples: [
            Example(
                #"iotstream job create-twin-update fw-2 '{"properties":{"desired":{"fw":2}}}' --query-condition "tags.plant = 'R43'""#,
                "asks all devices of a plant for a firmware"),
            Example(
                "iotstream job create-method nightly reboot --query-condition '*' --start-time 2026-12-24T02:00:00Z",
                "calls a method of every device one night"),
            Example("iotstream job show fw-2 --devices", "what has become of it at each device"),
        ])

    private static let id = Operand("ID", .one, "the job")
    private static let common: [Option] = [
        .value("query-condition", "CONDITION", "which devices: what stands behind WHERE in a query, or * for all"),
        .value("start-time", "TIME", "when it begins, like 2026-12-24T02:00:00Z (now)"),
        .value("ttl", "TIME", "how long it may take, like 30m (1h)"),
        .flag("wait", "ends when the job has ended"),
    ]

    // MARK: - Making

    private static let createTwinUpdate = Command(
        name: "create-twin-update", summary: "changes tags and desired properties of many twins",
        details: "Objects are merged, null removes, everything else replaces, as with iotstream twin update.",
        options: common + [.value("etag", "ETAG", "only twins that have this etag")],
        operands: [id, Operand("JSON", .one, "tags and properties.desired as in a twin, or @FILE", completion: .file)],
        run: runTwinUpdate)

    @Sendable private static func runTwinUpdate(_ arguments: Arguments) throws(Failure) {
        var patch = try JSONArgument.value(try arguments.required("JSON"), "the patch")
        patch["etag"] = .string(arguments.text("etag") ?? "*")
        try create(["type": "scheduleUpdateTwin", "updateTwin": patch], arguments)
    }

    private static let createMethod = Command(
        name: "create-method", summary: "calls a method of many devices",
        options: common + [
            .value("timeout", "SECONDS", "how long a device may take to answer, 5 to 300 (30)"),
            .value("connect-timeout", "SECONDS", "how long to wait until a device is connected, 0 to 300 (0)"),
        ],
        operands: [id, Operand("NAME", .one, "the method"), Operand("JSON", .optional, "the payload, or @FILE", completion: .file)],
        run: runMethod)

    @Sendable private static func runMethod(_ arguments: Arguments) throws(Failure) {
        let payload = try arguments.operand("JSON").map { word throws(Failure) in try JSONArgument.value(word, "the payload") }
        let connectSeconds = try arguments.seconds("connect-timeout", in: 0...300) ?? 0
        let responseSeconds = try arguments.seconds("timeout", in: 5...300) ?? 30
        let method = try arguments.required("NAME")
        let request = try asking { () throws(RegistryError) in
            try MethodRequest(name: method, payload: payload ?? .null, connectSeconds: connectSeconds, responseSeconds: responseSeconds)
        }
        try create(["type": "scheduleDeviceMethod", "cloudToDeviceMethod": request.json], arguments)
    }

    private static func create(_ order: JSONValue, _ arguments: Arguments) throws(Failure) {
        var document = order
        let id = try arguments.required("ID")
        guard let condition = arguments.text("query-condition") else {
            throw .usage("--query-condition is missing", "* stands for every device")
        }
        document["jobId"] = .string(id)
        document["queryCondition"] = .string(condition)
        document["startTime"] = arguments.text("start-time").map { .string($0) }
        if let seconds = try arguments.seconds("ttl", in: 1...172_800) { document["maxExecutionTimeInSeconds"] = .integer(Int64(seconds)) }
        let hub = try Administration.find(arguments)
        var job = try hub.createJob(id, document)
        if arguments.flag("wait") { job = try wait(for: job, id, hub) }
        try print([job], job, arguments)
        if job["status"]?.string == "failed" {
            try Output.flush()
            throw .refused("\(id): \(job["failureReason"]?.string ?? "failed")")
        }
    }

    /// Looks twice a second.
    private static func wait(for first: JSONValue, _ id: String, _ hub: Administration) throws(Failure) -> JSONValue {
        var job = first
        while !["completed", "failed", "cancelled"].contains(job["status"]?.string) {
            Pause.milliseconds(500)
            job = try hub.job(id)
        }
        return job
    }

    // MARK: - Looking and ending

    private static let list = Command(
        name: "list", summary: "lists jobs",
        options: [
            .value(
                "type", "TYPE", "scheduleUpdateTwin or scheduleDeviceMethod",
                completion: .words(["scheduleUpdateTwin", "scheduleDeviceMethod"])),
            .value(
                "status", "STATUS", "scheduled, queued, running, completed, failed or cancelled",
                completion: .words(["scheduled", "queued", "running", "completed", "failed", "cancelled"])),
            .value("top", "N", "no more than so many"),
        ], run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let type = try arguments.choice("type", of: ["scheduleUpdateTwin", "scheduleDeviceMethod"])
        let status = try arguments.choice("status", of: ["scheduled", "queued", "running", "completed", "failed", "cancelled"])
        let top = try arguments.integer("top", in: 1...Int(Int32.max))
        let jobs = try Administration.find(arguments).jobs(type: type, status: status, most: top)
        try print(jobs, .array(jobs), arguments)
    }

    private static let show = Command(
        name: "show", summary: "shows a job", options: [.flag("devices", "shows what has become of it at each device")], operands: [id],
        run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        let id = try arguments.required("ID"), hub = try Administration.find(arguments)
        let job = try hub.job(id)
        guard arguments.flag("devices") else { return try print([job], job, arguments) }
        var devices: [JSONValue] = []
        let text = id.flatMap { $0 == "'" || $0 == "\\" ? ["\\", $0] : [$0] }
        try hub.forEachPage(of: "SELECT * FROM devices.jobs WHERE jobId = '\(String(text))'") { devices += $0.items }
        guard !arguments.wantsJSON else { return try Output.json(.array(devices)) }
        try Output.table(
            ["DEVICE", "STATUS", "ENDED", "OUTCOME"],
            devices.map { device in
                let name = device["deviceId"]?.string ?? "", answer = device["outcome"]?["deviceMethodResponse"]
                return [
                    device["moduleId"]?.string.map { "\(name)/\($0)" } ?? name, device["status"]?.string ?? "",
                    device["endTimeUtc"]?.string ?? "",
                    device["error"]?["description"]?.string ?? answer.map { "\($0["status"]?.text() ?? "") \($0["payload"]?.text() ?? "")" }
                        ?? "",
                ]
            })
    }

    private static let cancel = Command(
        name: "cancel", summary: "calls a job off", details: "What was done is not undone.", operands: [id], run: runCancel)

    @Sendable private static func runCancel(_ arguments: Arguments) throws(Failure) {
        let job = try Administration.find(arguments).cancelJob(try arguments.required("ID"))
        if arguments.wantsJSON { try Output.json(job) }
    }

    private static func print(_ jobs: [JSONValue], _ document: JSONValue, _ arguments: Arguments) throws(Failure) {
        guard !arguments.wantsJSON else { return try Output.json(document) }
        try Output.table(
            ["ID", "TYPE", "STATUS", "START", "DEVICES", "DONE", "FAILED", "CONDITION"],
            jobs.map { job in
                let statistics = job["deviceJobStatistics"]
                func count(_ member: String) -> String { statistics?[member]?.text() ?? "" }
                return [
                    job["jobId"]?.string ?? "", job["type"]?.string ?? "", job["status"]?.string ?? "", job["startTime"]?.string ?? "",
                    count("deviceCount"), count("succeededCount"), count("failedCount"), job["queryCondition"]?.string ?? "",
                ]
            })
    }
}
