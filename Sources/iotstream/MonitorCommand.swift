import Console
import Glibc
import Registry
import Store
import Telemetry
import Wire

/// `iotstream monitor`: the messages that devices send.
enum MonitorCommand {
    static let command = Command(
        name: "monitor", summary: "shows what devices send",
        details: """
            Without --from it shows what comes from now on, until it is ended. With --from it begins there and ends with the newest message; \
            --follow goes on. Offsets count the bytes of one partition: name the device or the partition with them. Without a connection \
            string this reads the log in the hub's state directory, whether or not a hub is running.
            """,
        options: Administration.options + [
            .value("from", "WHERE", "now (the default), beginning, an offset, or a time like 2026-01-31T08:00:00Z"),
            .flag("follow", short: "f", "go on with what comes"),
            .value("partition", "N", "only this partition of the log"),
            .value("group", "NAME", "begin where this consumer group has come to, and note how far it has come"),
            .value("count", "N", "end after so many messages"),
        ],
        operands: [Operand("ID", .optional, "only messages of this device")],
        examples: [
            Example("iotstream monitor", "shows every message that comes"),
            Example("iotstream monitor press-17 --from beginning --json", "prints all of a device's messages that there are, a line each"),
            Example("iotstream monitor --group billing --from beginning --follow --json", "goes on where this group has come to"),
        ],
        run: run)

    @Sendable private static func run(_ arguments: Arguments) throws(Failure) {
        var order = MonitorOrder()
        if let id = arguments.operand("ID") { order.device = try ClientIdentity.device(id).deviceID }
        order.partition = try arguments.integer("partition", in: 0...(LogDirectory.mostPartitions - 1))
        order.group = arguments.text("group")
        order.follows = arguments.flag("follow")
        if let text = arguments.text("from") {
            guard let start = TelemetryStart(text) else {
                throw .usage("--from \(text): not a place in the log", "now, beginning, an offset, or a time like 2026-01-31T08:00:00Z")
            }
            if case .offset = start, order.device == nil, order.partition == nil {
                throw .usage("--from \(text): offsets count in one partition", "name a device, or one with --partition")
            }
            (order.start, order.from) = (start, text)
        }
        if order.start == .latest { order.follows = true }
        let limit = try arguments.integer("count", in: 1...Int(Int32.max))
        let feed: any MonitorFeed =
            switch try Administration.place(arguments) {
            case .state(let paths): try LogFeed(paths, order)
            case .service(let client): try HubFeed(client, order)
            }
        var shown = 0
        while true {
            let part = try feed.next()
            if part.missed > 0 { Output.warn(role: "monitor", "\(part.missed) messages are not in the log any more") }
            for record in part.records {
                try arguments.wantsJSON ? Output.jsonLine(record) : Output.line(line(of: record))
                shown += 1
                if shown == limit { break }
            }
            try Output.flush()
            if shown == limit { return try feed.commit(part.records.prefix(shown)) }
            try feed.commit(part.records[...])
            if part.isAtEnd, !order.follows { return }
        }
    }

    /// Time, device, body, properties; on one line whatever is in them.
    private static func line(of record: JSONValue) -> String {
        let module = record["moduleId"]?.string.map { "/\($0)" } ?? ""
        let body = record["body"]?.string ?? record["bodyBase64"]?.string.map { "base64:\($0)" } ?? ""
        let properties = (record["properties"]?.object ?? JSONObject()).map { "\($0.key)=\($0.value.string ?? "")" }
        let head = [record["enqueuedTime"]?.string ?? "", "\(record["deviceId"]?.string ?? "")\(module)"]
        return (head + [body] + properties).map(Printable.oneLine).joined(separator: "  ")
    }
}

/// What is to be shown.
struct MonitorOrder {
    var device: String?
    var partition: Int?
    var start = TelemetryStart.latest
    /// `start` as it was written.
    var from = "now"
    var group: String?
    var follows = false
}

/// Some messages, as documents of the service API.
struct MonitorPart {
    var records: [JSONValue] = []
    var missed: UInt64 = 0
    /// There is nothing more for now.
    var isAtEnd = false
}

/// Where messages come from.
protocol MonitorFeed {
    /// What comes next; waits for a while when everything has been seen and the order is to follow.
    func next() throws(Failure) -> MonitorPart
    /// Notes for the group that these have been shown.
    func commit(_ records: ArraySlice<JSONValue>) throws(Failure)
}

extension MonitorFeed {
    /// The place behind the last record of each partition.
    static func ends(of records: ArraySlice<JSONValue>) -> [Int: TelemetryPosition] {
        var ends: [Int: TelemetryPosition] = [:]
        for record in records {
            guard let partition = record["partition"]?.integer, let offset = record["nextOffset"]?.integer,
                let sequence = record["sequenceNumber"]?.integer, offset >= 0, sequence >= 0
            else { continue }
            ends[Int(clamping: partition)] = TelemetryPosition(offset: UInt64(offset), sequence: UInt64(sequence) &+ 1)
        }
        return ends
    }
}
