import Wire

/// What a service asks of a device by a direct method (service-rest 10).
package struct MethodRequest: Equatable, Sendable {
    /// Bytes of JSON text, each way.
    package static let mostPayloadBytes = 128 << 10
    static let mostNameCharacters = 100
    static let connectRange = 0...300, responseRange = 5...300

    /// 1 to 100 characters.
    package let name: String
    /// JSON text; `null` when the caller gave nothing.
    package let payload: [UInt8]
    /// How long the device may take to come, 0 to 300, and to answer, 5 to 300.
    package let connectSeconds: Int, responseSeconds: Int

    package init(name: String, payload: JSONValue = .null, connectSeconds: Int = 0, responseSeconds: Int = 30) throws(RegistryError) {
        guard (1...Self.mostNameCharacters).contains(name.unicodeScalars.count), !name.utf8.contains(0) else {
            throw .argumentInvalid("methodName has 1 to \(Self.mostNameCharacters) characters")
        }
        guard Self.connectRange.contains(connectSeconds) else {
            throw .argumentInvalid("connectTimeoutInSeconds is \(Self.connectRange.lowerBound) to \(Self.connectRange.upperBound)")
        }
        guard Self.responseRange.contains(responseSeconds) else {
            throw .argumentInvalid("responseTimeoutInSeconds is \(Self.responseRange.lowerBound) to \(Self.responseRange.upperBound)")
        }
        let text = payload.bytes()
        guard text.count <= Self.mostPayloadBytes else {
            throw .messageTooLarge("the payload has \(text.count) bytes, at most \(Self.mostPayloadBytes) are taken")
        }
        self.name = name
        self.payload = text
        self.connectSeconds = connectSeconds
        self.responseSeconds = responseSeconds
    }

    /// Reads the body of a call; what it does not know, it ignores.
    package init(json: JSONValue) throws(RegistryError) {
        guard case .object = json else { throw .argumentInvalid("the body is no JSON object") }
        guard let name = json["methodName"]?.string else { throw .argumentNull("methodName is missing") }
        func seconds(_ keys: String..., otherwise usual: Int) throws(RegistryError) -> Int {
            for key in keys {
                guard let value = json[key], !value.isNull else { continue }
                guard let number = value.integer else { throw .argumentInvalid("\(key) is no whole number") }
                return Int(clamping: number)
            }
            return usual
        }
        try self.init(
            name: name, payload: json["payload"] ?? .null, connectSeconds: try seconds("connectTimeoutInSeconds", otherwise: 0),
            responseSeconds: try seconds("responseTimeoutInSeconds", "timeoutInSeconds", otherwise: 30))
    }

    /// The body of a call, as a service sends it.
    package var json: JSONValue {
        [
            "methodName": .string(name), "payload": (try? JSONValue.parse(payload.span.bytes)) ?? .null,
            "connectTimeoutInSeconds": .integer(Int64(connectSeconds)), "responseTimeoutInSeconds": .integer(Int64(responseSeconds)),
        ]
    }
}
