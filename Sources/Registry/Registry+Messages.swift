import Bytes
import Store
import Wire

// Cloud-to-device messages: a queue to a device, kept while it is away (mqtt-device 11). Who holds a message for the moment is the hub's
// matter; here is what lasts: a message is in its queue until it is completed, rejected, too old, too often returned, or purged.

/// What becomes of a message that a device was given.
package enum MessageSettlement: Sendable {
    case complete, reject
    /// Back to the queue; once too often, and it is given up.
    case abandon
}

extension Registry {
    /// Feedback records that are kept; the oldest go first.
    static let mostFeedback = 10_000

    /// The messages that wait for a device, oldest first, without those whose time is over.
    package func messages(of device: String, now: Timestamp = .now) throws(RegistryError) -> [QueuedMessage] {
        try read { transaction throws(RegistryError) in
            try Self.queue(of: device, in: transaction).filter { $0.expiry > now }
        }
    }

    /// How many messages wait for a device.
    package func messageCount(of device: String) throws(RegistryError) -> Int {
        try read { transaction throws(RegistryError) in
            var count = 0
            try Self.stored { () throws(StoreError) in
                try transaction.scan(.messages, prefix: "\(device)\0") { _, _ in
                    count += 1
                    return true
                }
            }
            return count
        }
    }

    /// When the first message of all is over; nil without messages.
    package func nextExpiry() throws(RegistryError) -> Timestamp? {
        try read { transaction throws(RegistryError) in
            var first: Timestamp?
            try Self.stored { () throws(StoreError) in
                try transaction.scan(.expiries) { key, _ in
                    first = key.toString().flatMap { ExpiryKey($0) }?.time
                    return false
                }
            }
            return first
        }
    }

    /// The oldest feedback, `limit` records at most, that `isFree` says nobody holds.
    package func feedback(
        limit: Int, now: Timestamp = .now, where isFree: (UInt64) -> Bool
    ) throws(RegistryError) -> [MessageFeedback] {
        try read { transaction throws(RegistryError) in
            var found: [MessageFeedback] = []
            let begin = try Self.messageLimits(in: transaction).beginOfFeedback(now)
            try Self.stored { () throws(StoreError) in
                try transaction.scan(.feedback) { key, value in
                    if let sequence = key.toString().flatMap({ UInt64($0, radix: 16) }), isFree(sequence),
                        let json = try? JSONValue.parse(value), MessageFeedback.time(of: json) >= begin
                    {
                        found.append(MessageFeedback(sequence: sequence, json: json))
                    }
                    return found.count < limit
                }
            }
            return found
        }
    }

    // MARK: - Inside a transaction

    /// Puts a message at the end of a device's queue and tells its sequence number.
    static func enqueue(
        _ message: CloudMessage, to device: String, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> UInt64 {
        let identity = try require(try deviceName(device), in: transaction)
        let limits = try messageLimits(in: transaction)
        try expire(in: transaction, now: now, limit: limits.queue)  // what is over makes room
        guard try queue(of: device, in: transaction).count < limits.queue else { throw .queueFull(device: device) }
        let latest = Timestamp(ticks: now.ticks &+ CloudMessage.mostSeconds * 10_000_000)
        let usual = Timestamp(ticks: now.ticks &+ Int64(limits.seconds) * 10_000_000)
        let sequence = try nextNumber(in: transaction)
        let queued = QueuedMessage(
            sequence: sequence, enqueuedTime: now, expiry: min(message.expiry ?? usual, latest), deliveryCount: 0,
            generationID: identity.generationID, message: message)
        try stored { () throws(StoreError) in
            try transaction.put(.messages, messageKey(device, sequence), queued.record)
            try transaction.put(.expiries, ExpiryKey(time: queued.expiry, device: device, sequence: sequence).text, [])
            try transaction.log(Change(.messageQueued, device: device))
        }
        return sequence
    }

    /// Settles a message that the device had; false when it is in the queue no more.
    static func settle(
        _ sequence: UInt64, of device: String, _ settlement: MessageSettlement, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> Bool {
        let found = try stored { () throws(StoreError) in
            try transaction.lend(.messages, messageKey(device, sequence)) { bytes throws(StoreError) in try decode(message: bytes) }
        }
        guard var queued = found else { return false }
        switch settlement {
        case .complete: try remove(queued, of: device, .success, in: transaction, now: now)
        case .reject: try remove(queued, of: device, .rejected, in: transaction, now: now)
        case .abandon:
            queued.deliveryCount += 1
            if try queued.deliveryCount >= messageLimits(in: transaction).deliveries {
                try remove(queued, of: device, .deliveryCountExceeded, in: transaction, now: now)
            } else {
                try stored { () throws(StoreError) in
                    try transaction.put(.messages, messageKey(device, sequence), queued.record)
                    try transaction.log(Change(.messageQueued, device: device))
                }
            }
        }
        return true
    }

    /// Empties a device's queue and tells how many messages were in it.
    static func purge(_ device: String, in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) -> Int {
        _ = try require(try deviceName(device), in: transaction)
        let waiting = try queue(of: device, in: transaction)
        for queued in waiting { try remove(queued, of: device, .purged, in: transaction, now: now) }
        return waiting.count
    }

    /// Removes messages whose time is over, of all devices, `limit` at most.
    @discardableResult
    static func expire(in transaction: borrowing WriteTransaction, now: Timestamp, limit: Int) throws(RegistryError) -> Int {
        var over: [ExpiryKey] = []
        try stored { () throws(StoreError) in
            try transaction.scan(.expiries) { key, _ throws(StoreError) in
                guard let key = key.toString().flatMap({ ExpiryKey($0) }) else { throw .damaged(path: "registry", reason: "an expiry") }
                guard key.time <= now, over.count < limit else { return false }
                over.append(key)
                return true
            }
        }
        for key in over {
            let queued = try stored { () throws(StoreError) in
                try transaction.lend(.messages, messageKey(key.device, key.sequence)) { bytes throws(StoreError) in
                    try decode(message: bytes)
                }
            }
            if let queued {
                try remove(queued, of: key.device, .expired, in: transaction, now: now)
            } else {
                try stored { () throws(StoreError) in _ = try transaction.delete(.expiries, key.text) }
            }
        }
        return over.count
    }

    /// Removes a device's messages without a word, as the device itself goes.
    static func dropMessages(of device: String, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        for queued in try queue(of: device, in: transaction) {
            try stored { () throws(StoreError) in try take(queued, of: device, in: transaction) }
        }
    }

    static func removeFeedback(_ sequences: [UInt64], in transaction: borrowing WriteTransaction) throws(RegistryError) {
        try stored { () throws(StoreError) in
            for sequence in sequences { try transaction.delete(.feedback, hex(sequence)) }
        }
    }

    private static func remove(
        _ queued: QueuedMessage, of device: String, _ outcome: MessageFeedback.Outcome, in transaction: borrowing WriteTransaction,
        now: Timestamp
    ) throws(RegistryError) {
        try stored { () throws(StoreError) in try take(queued, of: device, in: transaction) }
        guard queued.message.acknowledgement.wants(outcome) else { return }
        let record: JSONValue = [
            "originalMessageId": queued.message.properties[.messageID].map { .string($0) } ?? .null,
            "description": .string(outcome.rawValue),
            "statusCode": .string(outcome.rawValue), "deviceId": .string(device), "deviceGenerationId": .string(queued.generationID),
            "enqueuedTimeUtc": .string(now.description),
        ]
        let sequence = try nextNumber(in: transaction), begin = try messageLimits(in: transaction).beginOfFeedback(now)
        try stored { () throws(StoreError) in
            try transaction.put(.feedback, hex(sequence), record.bytes())
            var excess = try transaction.count(.feedback) - mostFeedback
            var over: [String] = []
            try transaction.scan(.feedback) { key, value in
                let isOld = (try? JSONValue.parse(value)).map { MessageFeedback.time(of: $0) < begin } ?? true
                guard excess > 0 || isOld, over.count < 100, let key = key.toString() else { return false }
                over.append(key)
                excess -= 1
                return true
            }
            for key in over { try transaction.delete(.feedback, key) }
        }
    }

    private static func take(_ queued: QueuedMessage, of device: String, in transaction: borrowing WriteTransaction) throws(StoreError) {
        try transaction.delete(.messages, messageKey(device, queued.sequence))
        try transaction.delete(.expiries, ExpiryKey(time: queued.expiry, device: device, sequence: queued.sequence).text)
    }

    private static func queue(
        of device: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> [QueuedMessage] {
        try stored { () throws(StoreError) in
            try transaction.collect(.messages, prefix: "\(device)\0") { _, value throws(StoreError) in try decode(message: value) }
        }
    }

    private static func decode(message bytes: RawSpan) throws(StoreError) -> QueuedMessage {
        guard let message = QueuedMessage(record: bytes) else { throw .damaged(path: "registry", reason: "a message's record") }
        return message
    }

    /// Messages and feedback are numbered together.
    private static func nextNumber(in transaction: borrowing WriteTransaction) throws(RegistryError) -> UInt64 {
        try stored { () throws(StoreError) in
            let number = try transaction.counter("messages") &+ 1
            try transaction.setCounter("messages", number)
            return number
        }
    }

    private static func messageKey(_ device: String, _ sequence: UInt64) -> String { "\(device)\0\(hex(sequence))" }
}

/// Sixteen digits, so that text sorts as numbers do.
private func hex(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}

/// A key of the table that tells which message is over next: time, device, number.
private struct ExpiryKey {
    let time: Timestamp
    let device: String
    let sequence: UInt64

    init(time: Timestamp, device: String, sequence: UInt64) {
        self.time = time
        self.device = device
        self.sequence = sequence
    }

    var text: String { "\(hex(UInt64(clamping: time.ticks)))\0\(device)\0\(hex(sequence))" }

    init?(_ text: String) {
        let parts = text.split(separator: "\0", omittingEmptySubsequences: false)
        guard parts.count == 3, let ticks = UInt64(parts[0], radix: 16), let sequence = UInt64(parts[2], radix: 16) else { return nil }
        self.init(time: Timestamp(ticks: Int64(clamping: ticks)), device: String(parts[1]), sequence: sequence)
    }
}
