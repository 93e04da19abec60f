/// An MQTT user name of a hub's client: `{host}/{clientId}/?{query}` and its older forms (mqtt-device 3.1).
package struct MQTTUserName: Equatable, Sendable {
    /// Compare without case with every name that the hub answers to.
    package let host: String
    /// In the order given, values percent-decoded; one that cannot be decoded stays as it is.
    package let query: [TopicField]

    package var apiVersion: String? { query["api-version"] }
    package var modelID: String? { query["model-id"] }

    /// Nil when the name does not belong to the client id: an authentication failure.
    package init?(_ text: String, clientID: String) {
        let (host, rest) = Substring(text).level()
        guard !host.isEmpty, let tail = rest.after(clientID) else { return nil }
        self.host = String(host)
        if tail.isEmpty || tail == "/" || tail == "/?" {
            query = []
            return
        }
        // Ids may hold ? and =, so what follows the client id must look like a query; else it is another, longer id.
        guard let written = tail.after("/?") ?? tail.after("/") else { return nil }
        var fields: [TopicField] = []
        for pair in written.utf8.split(separator: UInt8(ascii: "&")) {
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            let key = String(Substring(parts[0]))
            guard parts.count == 2, Identifier.isValidPolicyName(key) else { return nil }
            let value = String(Substring(parts[1]))
            fields.append(TopicField(key, PercentCoding.decode(value) ?? value))
        }
        query = fields
    }

    /// The name under which a client of ours connects.
    package static func make(host: String, client: ClientIdentity, apiVersion: String, clientType: String, modelID: String? = nil) -> String
    {
        let query = [("api-version", apiVersion), ("DeviceClientType", clientType)] + (modelID.map { [("model-id", $0)] } ?? [])
        let fields = query.map { "\($0.0)=\(PercentCoding.encode($0.1, leaving: .unreserved))" }
        return "\(host)/\(client.clientID)/?\(fields.joined(separator: "&"))"
    }
}
