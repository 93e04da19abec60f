import Console
import Registry
import Wire

/// `iotstream message …`: cloud-to-device messages.
enum MessageCommand {
    static let command = Command(
        name: "message", summary: "sends messages to devices", options: Administration.options, subcommands: [send, purge],
        examples: [
            Example("iotstream message send press-17 'oil the bearings' -p urgency=high", "waits for the device for an hour"),
            Example("iotstream message send press-17 @job.json --content-type application/json --ttl 1d", "sends a file"),
        ])

    private static let device = Operand("DEVICE", .one, "the device")

    private static func device(_ arguments: Arguments) throws(Failure) -> String {
        try ClientIdentity.device(try arguments.required("DEVICE")).deviceID
    }

    private static let send = Command(
        name: "send", summary: "puts a message at the end of a device's queue",
        details: """
            The device gets it when it is connected and listens. A queue has room for 50 messages unless the hub is told otherwise; what is not fetched \
            in its time is dropped. With --ack the hub keeps a record of what became of the message, for services to read.
            """,
        options: [
            .value("property", short: "p", "KEY=VALUE", "a property of the message; may be repeated", repeats: true),
            .value("message-id", "ID", "names the message in the records of what became of it"),
            .value("correlation-id", "ID", "what it belongs to"),
            .value("content-type", "TYPE", "like application/json"), .value("content-encoding", "NAME", "like utf-8"),
            .value("ttl", "TIME", "how long it may wait: 1h (the default of most hubs), 30m, 2d (the most)"),
            .value(
                "ack", "WISH", "positive, negative, full or none (the default)",
                completion: .words(["positive", "negative", "full", "none"])),
        ],
        operands: [device, Operand("BODY", .one, "the text, or @FILE", completion: .file)], run: runSend)

    @Sendable private static func runSend(_ arguments: Arguments) throws(Failure) {
        let device = try device(arguments)
        var bag = PropertyBag()
        let named: [(String, SystemProperty)] = [
            ("message-id", .messageID), ("correlation-id", .correlationID), ("content-type", .contentType),
            ("content-encoding", .contentEncoding),
        ]
        for (option, property) in named { if let text = arguments.text(option) { bag.set(property, text) } }
        if let seconds = try arguments.seconds("ttl", in: 1...172_800) {
            bag.set(.absoluteExpiry, Timestamp(seconds: Timestamp.now.seconds + Int64(seconds)).description)
        }
        if let wish = arguments.text("ack") { bag.set(PropertyBag.acknowledgement, wish) }
        for text in arguments.list("property") {
            guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
                throw .usage("--property \(text): not KEY=VALUE", "write it like -p urgency=high")
            }
            let key = String(text[..<equals])
            guard !key.hasPrefix("$."), key != PropertyBag.acknowledgement, key != PropertyBag.operation else {
                throw .usage("--property \(text): the name is the hub's own", "choose another")
            }
            bag.set(key, String(text[text.index(after: equals)...]))
        }
        let word = try arguments.required("BODY")
        let body = word.hasPrefix("@") ? try InputFile.read(String(word.dropFirst()), limit: 1 << 20) : Array(word.utf8)
        let message = try asking { () throws(RegistryError) in try CloudMessage(to: device, properties: bag, body: body) }
        try Administration.find(arguments).send(message, to: device)
    }

    private static let purge = Command(
        name: "purge", summary: "empties a device's queue, and prints how many messages were in it", operands: [device], run: runPurge)

    @Sendable private static func runPurge(_ arguments: Arguments) throws(Failure) {
        let device = try device(arguments)
        let count = try Administration.find(arguments).purgeMessages(of: device)
        try arguments.wantsJSON
            ? Output.json(["deviceId": .string(device), "totalMessagesPurged": .integer(Int64(count))]) : Output.line("\(count)")
    }
}
