import Console
import Registry
import Wire

/// `iotstream configuration …`: what the twins of many devices shall have, now and from now on.
enum ConfigurationCommand {
    static let command = Command(
        name: "configuration", summary: "keeps desired properties of many devices as they should be",
        details: """
            A configuration writes its content into the twin of every device that meets its target condition, also of those that come to \
            meet it later, and takes it back from those that no longer do. Of several that are meant for one device the one with the \
            highest priority is written, and among equals the latest. Over REST this needs a policy with ServiceConnect or RegistryWrite.
            """,
        options: Administration.options, subcommands: [create, show, list, update, delete],
        examples: [
            Example(
                #"iotstream configuration create fw-2 '{"deviceContent":{"properties.desired.fw":2}}' --target-condition "tags.plant = 'R43'""#,
                "asks all devices of a plant for a firmware, also those that come later"),
            Example("iotstream configuration show fw-2 --json", "with its metrics"),
            Example("iotstream configuration update fw-2 --priority 20", "changes one thing and leaves the rest"),
        ])

    private static let id = Operand("ID", .one, "the configuration")
    private static let settings: [Option] = [
        .value("target-condition", "CONDITION", "which devices: what stands behind WHERE in a query, * for all; none without it"),
        .value("priority", "N", "the highest that is meant for a device is written (0)"),
        .value("labels", "JSON", #"texts for people: {"owner":"line 4"}, or @FILE"#, completion: .file),
        .value("metrics", "JSON", "queries by name, whose rows are counted, or @FILE", completion: .file),
    ]
    private static let etag = Option.value("etag", "ETAG", "only if it still has this etag")

    private static let create = Command(
        name: "create", summary: "makes a configuration, and prints it",
        options: settings,
        operands: [id, Operand("CONTENT", .one, "deviceContent, moduleContent or modulesContent, or @FILE", completion: .file)],
        run: runCreate)

    @Sendable private static func runCreate(_ arguments: Arguments) throws(Failure) {
        let id = try arguments.required("ID")
        let content = try JSONArgument.value(try arguments.required("CONTENT"), "the content")
        var document: JSONValue = ["id": .string(id), "schemaVersion": "1.0", "content": content["content"] ?? content]
        try take(arguments, into: &document)
        try print(try Administration.find(arguments).putConfiguration(id, document, etag: nil), arguments)
    }

    private static let update = Command(
        name: "update", summary: "changes what is named, and prints the configuration", details: "The content cannot be changed.",
        options: settings + [etag], operands: [id], run: runUpdate)

    @Sendable private static func runUpdate(_ arguments: Arguments) throws(Failure) {
        let id = try arguments.required("ID"), hub = try Administration.find(arguments)
        var document = try hub.configuration(id)
        guard try take(arguments, into: &document) else {
            throw .usage("nothing is named that should change", "give --target-condition, --priority, --labels or --metrics")
        }
        let etag = bare(arguments.text("etag")) ?? document["etag"]?.string ?? "*"
        try print(try hub.putConfiguration(id, document, etag: etag), arguments)
    }

    /// Puts what the options say into the document; false when they say nothing.
    @discardableResult
    private static func take(_ arguments: Arguments, into document: inout JSONValue) throws(Failure) -> Bool {
        var isChanged = false
        if let text = arguments.text("target-condition") {
            document["targetCondition"] = .string(text)
            isChanged = true
        }
        if let priority = try arguments.integer("priority", in: 0...Int(Int32.max)) {
            document["priority"] = .integer(Int64(priority))
            isChanged = true
        }
        if let text = arguments.text("labels") {
            document["labels"] = try JSONArgument.value(text, "--labels")
            isChanged = true
        }
        if let text = arguments.text("metrics") {
            let value = try JSONArgument.value(text, "--metrics"), metrics = value["metrics"] ?? value
            document["metrics"] = ["queries": metrics["queries"] ?? metrics]
            isChanged = true
        }
        return isChanged
    }

    private static let show = Command(name: "show", summary: "prints a configuration", operands: [id], run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        try print(try Administration.find(arguments).configuration(try arguments.required("ID")), arguments)
    }

    private static func print(_ document: JSONValue, _ arguments: Arguments) throws(Failure) {
        try arguments.wantsJSON ? Output.json(document) : Output.line(document.text(style: .pretty))
    }

    private static let list = Command(name: "list", summary: "lists configurations", run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let found = try Administration.find(arguments).configurations()
        guard !arguments.wantsJSON else { return try Output.json(.array(found)) }
        try Output.table(
            ["ID", "PRIORITY", "TARGETED", "APPLIED", "CONDITION"],
            found.map { configuration in
                let results = configuration["systemMetrics"]?["results"]
                return [
                    configuration["id"]?.string ?? "", configuration["priority"]?.text() ?? "", results?["targetedCount"]?.text() ?? "",
                    results?["appliedCount"]?.text() ?? "", configuration["targetCondition"]?.string ?? "",
                ]
            })
    }

    private static let delete = Command(
        name: "delete", summary: "removes a configuration; what it wrote is taken back", options: [etag], operands: [id], run: runDelete)

    @Sendable private static func runDelete(_ arguments: Arguments) throws(Failure) {
        try Administration.find(arguments).deleteConfiguration(try arguments.required("ID"), etag: bare(arguments.text("etag")))
    }

    /// Without the quotes that the header `ETag` has.
    private static func bare(_ text: String?) -> String? {
        guard case .etag(let etag)? = text.map({ IfMatch(header: $0) }) else { return text }
        return etag
    }
}
