import Bytes
import Wire

/// A hub that devices may be assigned to (dps 15.1).
package struct LinkedHub: Sendable {
    /// What devices are told as `assignedHub`: a host name without a port.
    package let name: String
    /// For the hub's service API: a policy with RegistryWrite and ServiceConnect.
    package let connection: ConnectionString
    /// Takes part where no rule names it.
    package var appliesPolicy: Bool
    /// 1 to 1000: its part among hashed assignments.
    package var weight: Int
    /// For people.
    package var location: String
    /// Milliseconds to its devices, where somebody has said so.
    package var latency: Int?

    package var key: String { name.lowercased() }

    /// Reads a linked hub's document; `name` is the connection string's host if missing.
    ///
    /// - Parameter existing: keeps its connection string where the document has none, since it is never shown.
    package init(json: JSONValue, existing: LinkedHub? = nil) throws(EnrollmentError) {
        if let text = try json.text("connectionString") {
            do { connection = try ConnectionString(parsing: text) } catch { throw .invalid("connectionString: \(error)") }
        } else if let existing {
            connection = existing.connection
        } else {
            throw .invalid("connectionString is missing")
        }
        guard connection.client == nil, connection.policy != nil, case .key? = connection.credential else {
            throw .invalid("connectionString is not one of a policy with its key")
        }
        if let existing { name = existing.name } else { name = try json.text("name") ?? connection.host.host }
        guard let host = HostPort(parsing: name), host.port == nil else { throw .invalid("name is a host name") }
        let (applies, weight) = (try json.flag("applyAllocationPolicy"), try json.number("allocationWeight", in: 1...1000))
        let (location, latency) = (try json.text("location"), try json.number("latencyMilliseconds", in: 0...100_000))
        appliesPolicy = applies ?? existing?.appliesPolicy ?? true
        self.weight = weight ?? existing?.weight ?? 1
        self.location = location ?? existing?.location ?? ""
        self.latency = latency ?? existing?.latency
    }

    /// - Parameter secrets: with the connection string: for the store.
    package func json(secrets: Bool = false) -> JSONValue {
        .object(of: [
            "name": .string(name), "connectionString": secrets ? .string(connection.text) : .none,
            "host": .string(connection.host.description),
            "policy": connection.policy.map { .string($0) }, "location": .string(location), "applyAllocationPolicy": .bool(appliesPolicy),
            "allocationWeight": .integer(Int64(weight)), "latencyMilliseconds": latency.map { .integer(Int64($0)) },
        ])
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let hub = try? LinkedHub(json: json) else { return nil }
        self = hub
    }
}

extension JSONValue {
    func number(_ key: String, in range: ClosedRange<Int64>) throws(EnrollmentError) -> Int? {
        try member(key, as: "a number from \(range.lowerBound) to \(range.upperBound)") {
            $0.integer.flatMap { range.contains($0) ? Int($0) : nil }
        }
    }
}
