import Console
import Registry
import Wire

/// `iotstream quota …`: what a device's streams may take.
enum QuotaCommand {
    static let command = Command(
        name: "quota", summary: "limits what a device's streams may take, also while they run",
        details: """
            A quota goes over what the hub's configuration says for all devices. A stream over its rate is slowed down, never cut; a \
            stream that would be one too many is refused. Rates count the payload of both directions together.
            """,
        options: Administration.options, subcommands: [set, show, list, clear],
        examples: [
            Example("iotstream quota set press-17 --rate 1MB/s --streams 4", "holds all streams of a device to a rate, four at a time"),
            Example("iotstream quota set press-17 --rate none", "lifts one limit, even one of the hub's configuration"),
        ])

    private static let device = Operand("DEVICE", .one, "the device")

    private static func name(_ arguments: Arguments) throws(Failure) -> String {
        try ClientIdentity.device(try arguments.required("DEVICE")).deviceID
    }

    private static let set = Command(
        name: "set", summary: "sets the limits that are named, and leaves the others as they are",
        details: """
            A rate is written like 1MB/s, 500kB/s, 2MiB/s, 10Mbit/s, or in bytes per second. Instead of a number, none lifts a limit, and \
            default takes back what was set.
            """,
        options: [
            .value("rate", "RATE", "bytes per second of all streams of the device together"),
            .value("stream-rate", "RATE", "bytes per second of each of its streams"),
            .value("streams", "N", "streams at once"),
            .value("new-streams", "N", "new streams in one second; N/s says the same"),
        ],
        operands: [device], run: runSet)

    @Sendable private static func runSet(_ arguments: Arguments) throws(Failure) {
        let device = try name(arguments)
        let options: [(String, Quota.Aspect)] = [
            ("rate", .rate), ("stream-rate", .streamRate), ("streams", .streams), ("new-streams", .newStreamsPerSecond),
        ]
        var wanted: [(Quota.Aspect, Quota.Limit)] = []
        for (option, aspect) in options {
            if let text = arguments.text(option) { wanted.append((aspect, try limit(text, aspect, option))) }
        }
        guard !wanted.isEmpty else { throw .usage("no limit is named", "give --rate, --stream-rate, --streams or --new-streams") }
        let hub = try Administration.find(arguments)
        let document = try hub.quota(of: device)
        var quota = try asking { () throws(RegistryError) in try Quota(json: document) }
        for (aspect, limit) in wanted { quota[aspect] = limit }
        try hub.putQuota(quota, of: device)
        if arguments.wantsJSON { try Output.json(quota.document(of: device)) }
    }

    private static func limit(_ text: String, _ aspect: Quota.Aspect, _ option: String) throws(Failure) -> Quota.Limit {
        switch (text, aspect) {
        case ("none", _): return .none
        case ("default", _): return .usual
        case (_, .rate), (_, .streamRate):
            guard let rate = ByteRate.parse(text) else { throw .usage("--\(option) \(text): not a rate", ByteRate.examples) }
            return .most(rate)
        default:
            let digits = aspect == .newStreamsPerSecond && text.hasSuffix("/s") ? String(text.dropLast(2)) : text
            let range = aspect.range
            guard !digits.hasPrefix("+"), let number = Int(digits), range.contains(number) else {
                throw .usage("--\(option) \(text): not a number from \(range.lowerBound) to \(range.upperBound)", "or none, or default")
            }
            return .most(number)
        }
    }

    private static let show = Command(name: "show", summary: "shows a device's quota", operands: [device], run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        let device = try name(arguments)
        let document = try Administration.find(arguments).quota(of: device)
        guard !arguments.wantsJSON else { return try Output.json(document) }
        try table([document])
    }

    private static let list = Command(name: "list", summary: "lists the devices that have a quota of their own", run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let documents = try Administration.find(arguments).quotas()
        guard !arguments.wantsJSON else { return try Output.json(.array(documents)) }
        try table(documents)
    }

    private static func table(_ documents: [JSONValue]) throws(Failure) {
        try Output.table(
            ["DEVICE", "RATE", "STREAM RATE", "STREAMS", "NEW STREAMS"],
            documents.map { document in
                [document["deviceId"]?.string ?? ""] + Quota.Aspect.allCases.map { text(document[$0.rawValue], $0) }
            })
    }

    private static func text(_ value: JSONValue?, _ aspect: Quota.Aspect) -> String {
        guard let number = value?.integer else { return value?.string ?? "default" }
        switch aspect {
        case .rate, .streamRate: return ByteRate.text(Int(clamping: number))
        case .streams: return String(number)
        case .newStreamsPerSecond: return "\(number)/s"
        }
    }

    private static let clear = Command(
        name: "clear", summary: "forgets a device's quota; the hub's configuration holds", operands: [device], run: runClear)

    @Sendable private static func runClear(_ arguments: Arguments) throws(Failure) {
        let device = try name(arguments)
        try Administration.find(arguments).putQuota(Quota(), of: device)
    }
}
