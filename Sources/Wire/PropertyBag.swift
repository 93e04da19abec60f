/// Properties of a message at the end of its topic: `key=value` pairs joined by `&`, both percent-encoded (mqtt-device 9).
package struct PropertyBag: Equatable, Sendable {
    package struct Property: Equatable, Sendable {
        package var key: String
        /// Nil for a key that stands alone.
        package var value: String?

        package init(_ key: String, _ value: String?) {
            self.key = key
            self.value = value
        }

        /// Whether the key begins with `$.`: a system property, known or not.
        package var isSystem: Bool { key.hasPrefix("$.") }
    }

    /// Each key once, in the order of first appearance.
    package private(set) var properties: [Property] = []
    private var places: [String: Int] = [:]

    package init() {}

    /// A later duplicate wins.
    package init(_ properties: [Property]) {
        for property in properties { set(property.key, property.value) }
    }

    /// Reads a bag; nil when an escape is broken or does not make UTF-8. A leading `?` and a trailing `/` are skipped.
    package init?(parsing text: some StringProtocol) {
        var codes = Substring(text).utf8
        if codes.first == UInt8(ascii: "?") { codes.removeFirst() }
        if codes.last == UInt8(ascii: "/") { codes.removeLast() }
        for pair in codes.split(separator: UInt8(ascii: "&")) {
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let key = PercentCoding.decode(String(Substring(parts[0]))) else { return nil }
            guard parts.count > 1 else {
                set(key, nil)
                continue
            }
            guard let value = PercentCoding.decode(String(Substring(parts[1]))) else { return nil }
            set(key, value)
        }
    }

    /// Adds a property or replaces its value in place.
    package mutating func set(_ key: String, _ value: String?) {
        if let place = places[key] {
            properties[place].value = value
        } else {
            places[key] = properties.count
            properties.append(Property(key, value))
        }
    }

    package mutating func set(_ key: SystemProperty, _ value: String?) { set(key.rawValue, value) }

    /// A property's value; nil where there is none or it is null.
    package subscript(key: String) -> String? { places[key].flatMap { properties[$0].value } }
    package subscript(key: SystemProperty) -> String? { self[key.rawValue] }

    package func contains(_ key: String) -> Bool { places[key] != nil }
    package var isEmpty: Bool { properties.isEmpty }

    /// What the application set: all but system properties and `iothub-ack`, `iothub-operation`.
    package var application: [Property] {
        properties.filter { !$0.isSystem && $0.key != Self.acknowledgement && $0.key != Self.operation }
    }

    /// The wish for feedback on a cloud-to-device message: `none`, `positive`, `negative`, `full`.
    package static let acknowledgement = "iothub-ack"
    /// A key reserved for the service.
    package static let operation = "iothub-operation"

    /// The bag as a hub sends it: all but unreserved characters encoded; null as `key`, empty as `key=`.
    package var text: String {
        properties.map { property in
            let key = PercentCoding.encode(property.key, leaving: .unreserved)
            return property.value.map { "\(key)=\(PercentCoding.encode($0, leaving: .unreserved))" } ?? key
        }.joined(separator: "&")
    }

    package static func == (one: PropertyBag, other: PropertyBag) -> Bool { one.properties == other.properties }
}

/// System properties by their keys in a bag (mqtt-device 9).
package enum SystemProperty: String, CaseIterable, Sendable {
    case outputName = "$.on"
    case messageID = "$.mid"
    case correlationID = "$.cid"
    case userID = "$.uid"
    case to = "$.to"
    case contentType = "$.ct"
    case contentEncoding = "$.ce"
    /// ISO 8601.
    case absoluteExpiry = "$.exp"
    case component = "$.sub"
    case interfaceID = "$.ifid"
    case creationTime = "$.ctime"
    case messageSchema = "$.schema"
    case connectionDeviceID = "$.cdid"
    case connectionModuleID = "$.cmid"
    case diagnosticID = "$.diagid"
    case diagnosticContext = "$.diagctx"
}
