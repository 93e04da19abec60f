import Bytes
import Wire

extension PlacedRecord {
    /// The message as tools and the service API show it:
    ///
    ///     {"partition", "offset", "nextOffset", "sequenceNumber", "enqueuedTime", "deviceId", "moduleId", "source", "authMethod",
    ///      "systemProperties": {name: text}, "properties": {name: text or null}, "body": text | "bodyBase64": bytes}
    ///
    /// `moduleId` and `authMethod` stand only where they apply; a body that is UTF-8 is `body`, any other `bodyBase64`.
    package var json: JSONValue {
        let envelope = record.envelope
        var document: JSONValue = [
            "partition": .integer(Int64(partition)), "offset": .integer(Int64(clamping: record.position.offset)),
            "nextOffset": .integer(Int64(clamping: record.end.offset)),
            "sequenceNumber": .integer(Int64(clamping: record.position.sequence)),
            "enqueuedTime": .string(Timestamp(milliseconds: record.enqueuedMilliseconds).description),
            "deviceId": .string(envelope.deviceID),
        ]
        if let module = envelope.moduleID { document["moduleId"] = .string(module) }
        document["source"] = .string(envelope.source.name)
        if let method = envelope.authentication { document["authMethod"] = .string(method.json) }
        var system = JSONObject(), application = JSONObject()
        for property in envelope.system { system[property.key.name] = .string(property.value) }
        for property in envelope.application { application[property.name] = property.value.map { .string($0) } ?? .null }
        document["systemProperties"] = .object(system)
        document["properties"] = .object(application)
        if let text = String(validating: record.body, as: UTF8.self) {
            document["body"] = .string(text)
        } else {
            document["bodyBase64"] = .string(Base64.encode(record.body))
        }
        return document
    }
}
