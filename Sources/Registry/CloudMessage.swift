import Bytes
import Wire

/// A cloud-to-device message as its sender gave it (mqtt-device 11).
package struct CloudMessage: Equatable, Sendable {
    /// Which outcomes the sender wants to be told of.
    package enum Acknowledgement: String, Sendable {
        case none, positive, negative, full

        func wants(_ outcome: MessageFeedback.Outcome) -> Bool {
            switch self {
            case .none: false
            case .full: true
            case .positive: outcome == .success
            case .negative: outcome != .success
            }
        }
    }

    /// Bytes of body and properties at most.
    package static let mostBytes = 64 << 10
    /// How long a message lives at most, in seconds.
    static let mostSeconds: Int64 = 2 * 86400

    /// Its system properties, `iothub-ack` and the application's, in this order, as they go to the device.
    package let properties: PropertyBag
    package let body: [UInt8]
    let acknowledgement: Acknowledgement
    /// Nil for the usual life.
    let expiry: Timestamp?

    /// - Parameter properties: `$.to` is set anew; `$.exp` is ISO 8601.
    package init(to device: String, properties: PropertyBag, body: [UInt8]) throws(RegistryError) {
        let word = properties[PropertyBag.acknowledgement] ?? "none"
        guard let acknowledgement = Acknowledgement(rawValue: word) else {
            throw .argumentInvalid("iothub-ack is none, positive, negative or full")
        }
        var expiry: Timestamp?
        if let text = properties[.absoluteExpiry] {
            guard let parsed = Timestamp(parsing: text) else { throw .argumentInvalid("the expiry is no ISO 8601 time in UTC") }
            expiry = parsed
        }
        var bag = PropertyBag()
        bag.set(.to, "/devices/\(device)/messages/devicebound")
        for property in properties.properties where property.isSystem && property.key != SystemProperty.to.rawValue {
            bag.set(property.key, property.value)
        }
        if acknowledgement != .none { bag.set(PropertyBag.acknowledgement, acknowledgement.rawValue) }
        for property in properties.application { bag.set(property.key, property.value) }
        // The topic of a PUBLISH is a text of 65,535 bytes at most.
        guard bag.text.utf8.count + body.count <= Self.mostBytes, bag.text.utf8.count <= 60_000 else {
            throw .messageTooLarge("the message has \(bag.text.utf8.count + body.count) bytes, at most \(Self.mostBytes) are taken")
        }
        self.properties = bag
        self.body = body
        self.acknowledgement = acknowledgement
        self.expiry = expiry
    }

    init(stored properties: PropertyBag, body: [UInt8]) {
        self.properties = properties
        self.body = body
        acknowledgement = properties[PropertyBag.acknowledgement].flatMap { Acknowledgement(rawValue: $0) } ?? .none
        expiry = properties[.absoluteExpiry].flatMap { Timestamp(parsing: $0) }
    }
}

/// A message in a device's queue.
///
/// Its record: the length of a JSON text in four bytes, most significant first, the text, and the body. The text:
/// `{"sequence", "enqueuedTime", "expiry", "deliveryCount", "generationId", "properties"}`, the last as a property bag.
package struct QueuedMessage: Equatable, Sendable {
    /// Names it among all messages of the hub; grows in the order of arrival.
    package let sequence: UInt64
    package let enqueuedTime: Timestamp
    package let expiry: Timestamp
    /// How often it was given to the device and came back.
    package internal(set) var deliveryCount: Int
    /// Of the device to which it was sent.
    let generationID: String
    package let message: CloudMessage

    var record: [UInt8] {
        let head: JSONValue = [
            "sequence": .integer(Int64(clamping: sequence)), "enqueuedTime": .string(enqueuedTime.description),
            "expiry": .string(expiry.description), "deliveryCount": .integer(Int64(deliveryCount)), "generationId": .string(generationID),
            "properties": .string(message.properties.text),
        ]
        let text = head.bytes()
        return withUnsafeBytes(of: UInt32(clamping: text.count).bigEndian) { Array($0) } + text + message.body
    }

    /// Nil when the record is none.
    init?(record: RawSpan) {
        guard record.byteCount >= 4 else { return nil }
        let length = Int(record.bigEndian(at: 0, as: UInt32.self))
        guard length <= record.byteCount - 4, let head = try? JSONValue.parse(record.extracting(4..<(4 + length))),
            let sequence = head["sequence"]?.integer, sequence >= 0,
            let enqueuedTime = head["enqueuedTime"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let expiry = head["expiry"]?.string.flatMap({ Timestamp(parsing: $0) }), let count = head["deliveryCount"]?.integer,
            let properties = head["properties"]?.string.flatMap({ PropertyBag(parsing: $0) })
        else { return nil }
        self.init(
            sequence: UInt64(sequence), enqueuedTime: enqueuedTime, expiry: expiry, deliveryCount: Int(clamping: count),
            generationID: head["generationId"]?.string ?? "",
            message: CloudMessage(stored: properties, body: record.extracting((4 + length)..<record.byteCount).toArray()))
    }

    init(
        sequence: UInt64, enqueuedTime: Timestamp, expiry: Timestamp, deliveryCount: Int, generationID: String, message: CloudMessage
    ) {
        self.sequence = sequence
        self.enqueuedTime = enqueuedTime
        self.expiry = expiry
        self.deliveryCount = deliveryCount
        self.generationID = generationID
        self.message = message
    }
}

/// What became of a message, for whoever sent it (service-rest 12).
package struct MessageFeedback: Equatable, Sendable {
    package enum Outcome: String, Sendable {
        case success = "Success", expired = "Expired", deliveryCountExceeded = "DeliveryCountExceeded", rejected = "Rejected"
        case purged = "Purged"
    }

    /// Names it among all feedback of the hub.
    package let sequence: UInt64
    /// The record as the service API shows it.
    package let json: JSONValue

    /// When a record was made; never when it does not say so.
    static func time(of record: JSONValue) -> Timestamp {
        record["enqueuedTimeUtc"]?.string.flatMap { Timestamp(parsing: $0) } ?? .never
    }
}
