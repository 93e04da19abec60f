import Store
import Wire

/// What a device's queue of messages allows (mqtt-device 11 and 19). The hub leaves it with its facts, so that tools keep to it too.
package struct MessageLimits: Equatable, Sendable {
    /// Messages that wait for one device at most.
    package var queue = 50
    /// How often a message is given to its device at most.
    package var deliveries = 10
    /// How long a message lives that says nothing of it, in seconds.
    package var seconds = 3600
    /// How long feedback is kept for whoever wants it, in seconds; nil: until 10,000 others have come.
    package var feedbackSeconds: Int?

    package static let queueRange = 1...1000, deliveriesRange = 1...100, secondsRange = 60...172_800

    package init() {}

    /// Feedback of before is kept no more.
    func beginOfFeedback(_ now: Timestamp) -> Timestamp {
        feedbackSeconds.map { Timestamp(ticks: now.ticks &- Int64($0) * 10_000_000) } ?? .never
    }

    /// `{"queue":50,"deliveries":10,"seconds":3600,"feedbackSeconds":null}`
    var json: JSONValue {
        [
            "queue": .integer(Int64(queue)), "deliveries": .integer(Int64(deliveries)), "seconds": .integer(Int64(seconds)),
            "feedbackSeconds": feedbackSeconds.map { .integer(Int64($0)) } ?? .null,
        ]
    }

    /// What is missing or out of its range is as usual.
    init(json: JSONValue?) {
        func number(_ name: String, _ range: ClosedRange<Int>) -> Int? {
            json?[name]?.integer.flatMap { Int(exactly: $0) }.flatMap { range.contains($0) ? $0 : nil }
        }
        queue = number("queue", Self.queueRange) ?? queue
        deliveries = number("deliveries", Self.deliveriesRange) ?? deliveries
        seconds = number("seconds", Self.secondsRange) ?? seconds
        feedbackSeconds = number("feedbackSeconds", 1...Int(Int32.max))
    }
}

extension Registry {
    /// As the last hub of this state directory has left them.
    static func messageLimits(in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> MessageLimits {
        let record = try stored { () throws(StoreError) in try transaction.get(.facts, HubFacts.key) }
        return MessageLimits(json: record.flatMap { try? JSONValue.parse($0) }?["messages"])
    }
}
