import Wire

/// A message that a device sends over HTTPS (mqtt-device 16).
package struct UploadedMessage: Equatable, Sendable {
    /// The media type of a batch: `[{"body", "base64Encoded", "properties": {"iothub-app-k": "v", "iothub-messageid": "…"}}]`.
    private static let batchType = "application/vnd.microsoft.iothub.json"
    private static let mostBytes = 256 << 10, mostMessages = 500

    package let properties: PropertyBag
    package let body: [UInt8]

    /// The messages of one request: its body, or those in it when it is a batch.
    package static func parse(_ headers: HTTPHeaders, body: [UInt8]) throws(RegistryError) -> [UploadedMessage] {
        guard body.count <= mostBytes else {
            throw .messageTooLarge("the request has \(body.count) bytes, at most \(mostBytes) are taken")
        }
        let type = headers["Content-Type"]?.split(separator: ";").first.map { String($0.filter { $0 != " " }) } ?? ""
        guard ASCII.equalIgnoringCase(type, batchType) else {
            return [UploadedMessage(properties: try MessageFields.properties(in: headers), body: body)]
        }
        guard let entries = (try? JSONValue.parse(body))?.array, entries.count <= mostMessages else {
            throw .argumentInvalid("the body is no JSON array of at most \(mostMessages) messages")
        }
        var messages: [UploadedMessage] = []
        for entry in entries {
            guard let text = entry["body"]?.string else { throw .argumentInvalid("a message of the batch has no body") }
            var fields = HTTPHeaders()
            for (name, value) in entry["properties"]?.object ?? JSONObject() {
                guard let value = value.string else { throw .argumentInvalid("the property \(name) is no text") }
                fields.add(name, value)
            }
            let isEncoded = entry["base64Encoded"] == .bool(true)
            guard let bytes = isEncoded ? Base64.decode(text) : Array(text.utf8) else { throw .argumentInvalid("a body is not Base64") }
            messages.append(UploadedMessage(properties: try MessageFields.properties(in: fields), body: bytes))
        }
        return messages
    }
}
