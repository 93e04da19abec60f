import Wire

/// The header fields of a message that travels over HTTP, either way (mqtt-device 16).
package enum MessageFields {
    private static let applicationPrefix = "iothub-app-"

    private static let system: [(field: String, property: SystemProperty)] = [
        ("iothub-messageid", .messageID), ("iothub-correlationid", .correlationID), ("iothub-userid", .userID),
        ("iothub-contenttype", .contentType), ("iothub-contentencoding", .contentEncoding), ("iothub-expiry", .absoluteExpiry),
        ("iothub-creationtimeutc", .creationTime), ("iothub-messageschema", .messageSchema), ("iothub-interface-id", .interfaceID),
    ]

    /// The properties that a request's header names; other fields are none of the message's.
    package static func properties(in headers: HTTPHeaders) throws(RegistryError) -> PropertyBag {
        var bag = PropertyBag()
        for (field, property) in system { if let value = headers[field] { bag.set(property, value) } }
        if let wish = headers[PropertyBag.acknowledgement] { bag.set(PropertyBag.acknowledgement, wish) }
        for field in headers.fields where ASCII.equalIgnoringCase(String(field.name.prefix(applicationPrefix.count)), applicationPrefix) {
            let name = String(field.name.dropFirst(applicationPrefix.count))
            guard !name.isEmpty else { throw .argumentInvalid("a property has no name") }
            guard !name.hasPrefix("$."), !["iothub-ack", "iothub-operation"].contains(name) else {
                throw .argumentInvalid("\(name) is no name for an application's property")
            }
            bag.set(name, field.value)
        }
        return bag
    }

    /// The header with which a service sends a message.
    ///
    /// - Throws: `argumentInvalid` for a property that a header cannot carry.
    package static func headers(of message: CloudMessage) throws(RegistryError) -> [(String, String)] {
        let bag = message.properties
        var fields: [(String, String)] = system.compactMap { field, property in bag[property].map { (field, $0) } }
        if let wish = bag[PropertyBag.acknowledgement] { fields.append((PropertyBag.acknowledgement, wish)) }
        for property in bag.application { fields.append((applicationPrefix + property.key, property.value ?? "")) }
        for (name, value) in fields where !ASCII.isToken(name) || !isPlain(value) {
            throw .argumentInvalid("\(name) cannot be sent over REST: a header carries printable ASCII only")
        }
        return fields
    }

    private static func isPlain(_ value: String) -> Bool { value.utf8.allSatisfy { (0x20..<0x7F).contains($0) } }

    /// The header of a message that a device has fetched.
    package static func headers(of queued: QueuedMessage, token: String) -> HTTPHeaders {
        let bag = queued.message.properties
        var headers: HTTPHeaders = [
            "ETag": "\"\(token)\"", "iothub-sequencenumber": String(queued.sequence), "iothub-to": bag[.to] ?? "",
            "iothub-enqueuedtime": queued.enqueuedTime.description, "iothub-expiry": queued.expiry.description,
            "iothub-deliverycount": String(queued.deliveryCount), "iothub-ack": bag[PropertyBag.acknowledgement] ?? "none",
        ]
        func add(_ name: String, _ value: String?) {
            // What a field cannot carry is left out; over MQTT it arrives.
            if let value, isPlain(value), ASCII.isToken(name) { headers.add(name, value) }
        }
        for (field, property) in system where property != .absoluteExpiry { add(field, bag[property]) }
        add("ContentType", bag[.contentType])
        add("ContentEncoding", bag[.contentEncoding])
        for property in bag.application { add(applicationPrefix + property.key, property.value ?? "") }
        return headers
    }
}
