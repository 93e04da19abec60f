import Console
import Telemetry
import Wire

/// Messages out of a running hub's log, over REST.
final class HubFeed: MonitorFeed {
    private static let waitSeconds = 20

    private let client: ServiceClient
    private let order: MonitorOrder
    private var position: String?

    init(_ client: ServiceClient, _ order: MonitorOrder) throws(Failure) {
        self.client = client
        self.order = order
        if let group = order.group { position = try position(of: group) }
    }

    /// Where the group has come to in each partition where it has been.
    private func position(of group: String) throws(Failure) -> String? {
        var places = TelemetryPlaces()
        for entry in try client.get(["telemetry"])["partitions"]?.array ?? [] {
            guard let partition = entry["partition"]?.integer else { continue }
            let known = try client.get(["telemetry", "groups", group, String(partition)])
            if let offset = known["offset"]?.integer, let sequence = known["sequenceNumber"]?.integer, offset >= 0, sequence >= 0 {
                places.positions[Int(clamping: partition)] = TelemetryPosition(offset: UInt64(offset), sequence: UInt64(sequence))
            }
        }
        return places.positions.isEmpty ? nil : places.text
    }

    func next() throws(Failure) -> MonitorPart {
        var query = [("from", order.from)]
        if let position { query.append(("position", position)) }
        if let device = order.device { query.append(("device", device)) }
        if let partition = order.partition { query.append(("partition", String(partition))) }
        if order.follows { query.append(("wait", String(Self.waitSeconds))) }
        let answer = try client.get(["telemetry", "records"], query: query)
        guard let records = answer["records"]?.array, let next = answer["next"]?.string else {
            throw .unreachable("\(client.host) does not answer as a hub", "is this the right host and port?")
        }
        position = next
        return MonitorPart(
            records: records, missed: UInt64(clamping: answer["missed"]?.integer ?? 0), isAtEnd: records.isEmpty)
    }

    func commit(_ records: ArraySlice<JSONValue>) throws(Failure) {
        guard let group = order.group else { return }
        for (partition, position) in Self.ends(of: records) {
            let document: JSONValue = [
                "offset": .integer(Int64(clamping: position.offset)), "sequenceNumber": .integer(Int64(clamping: position.sequence)),
            ]
            _ = try client.send("PUT", ["telemetry", "groups", group, String(partition)], document)
        }
    }
}
