import Bytes
import LinuxIO
import Registry
import Synchronization
import Wire

/// Who holds which message of which queue for the moment (mqtt-device 11). Not on disk: after a restart every message is free.
final class MessageLocks: Sendable {
    /// How long a message is held for a device that has not settled it, and what may be asked for.
    static let usualSeconds = 60, range = 5...300

    /// Whoever was given messages.
    enum Holder: Equatable, Sendable {
        /// A device's MQTT connection, by its serial in the directory.
        case connection(UInt64)
        /// A device that fetched one over HTTPS and settles it by the lock's token.
        case fetch
    }

    private struct Lock {
        let holder: Holder
        /// Unguessable; names the lock to a device.
        let token: String
        /// As `Clock.unixSeconds` counts.
        let end: Int64
    }

    private let held: Mutex<[String: [UInt64: Lock]]> = Mutex([:])

    /// Locks the first messages of a device's queue that are free, `limit` at most. A connection gets none from behind one that another
    /// connection holds, which will come back soon: messages go out in the order of the queue.
    func take(
        from queue: [QueuedMessage], of device: String, for holder: Holder, limit: Int, seconds: Int
    ) -> [(message: QueuedMessage, token: String)] {
        let end = Clock.unixSeconds &+ Int64(seconds)
        return held.withLock { held in
            var taken: [(message: QueuedMessage, token: String)] = []
            for message in queue where taken.count < limit {
                if let lock = held[device]?[message.sequence] {
                    if case .connection = lock.holder, case .connection = holder, lock.holder != holder { break }
                    continue
                }
                let token = Hex.encode([UInt8].random(count: 16))
                held[device, default: [:]][message.sequence] = Lock(holder: holder, token: token, end: end)
                taken.append((message, token))
            }
            return taken
        }
    }

    /// The message that is held under a token; nil when it is not any more.
    func message(of device: String, lockedBy token: String) -> UInt64? {
        held.withLock { $0[device]?.first { $0.value.token == token }?.key }
    }

    /// Frees a message.
    func release(_ message: UInt64, of device: String) {
        held.withLock { held in
            held[device]?[message] = nil
            if held[device]?.isEmpty == true { held[device] = nil }
        }
    }

    /// What somebody holds of a device's messages.
    func messages(of device: String, heldBy holder: Holder) -> [UInt64] {
        held.withLock { ($0[device] ?? [:]).filter { $0.value.holder == holder }.map(\.key).sorted() }
    }

    /// What has been held for too long.
    func overdue(at seconds: Int64 = Clock.unixSeconds) -> [(device: String, message: UInt64)] {
        held.withLock { held in
            held.flatMap { device, locks in locks.filter { $0.value.end <= seconds }.map { (device, $0.key) } }
        }
    }
}

/// Batches of feedback, or of notifications of files, that somebody has fetched and not yet dealt with (service-rest 12).
final class BatchLocks: Sendable {
    /// Records in one batch at most, and how long it is held.
    static let mostRecords = 64
    private static let seconds: Int64 = 60

    private let batches: Mutex<[String: (records: [UInt64], end: Int64)]> = Mutex([:])

    /// Locks a batch of what is free; nil when nothing is.
    /// - Parameter read: finds so many records at most, of those that nobody holds.
    func take(
        now: Int64 = Clock.unixSeconds, _ read: (Int, (UInt64) -> Bool) throws(RegistryError) -> [MessageFeedback]
    ) throws(RegistryError) -> (token: String, records: [JSONValue])? {
        let held = batches.withLock { batches in
            batches = batches.filter { $0.value.end > now }
            return Set(batches.values.flatMap(\.records))
        }
        let found = try read(Self.mostRecords) { !held.contains($0) }
        guard !found.isEmpty else { return nil }
        let token = Hex.encode([UInt8].random(count: 16))
        batches.withLock { $0[token] = (found.map(\.sequence), now &+ Self.seconds) }
        return (token, found.map(\.json))
    }

    /// Ends a lock; what was held under it, or nil when nothing is any more.
    func release(_ token: String, now: Int64 = Clock.unixSeconds) -> [UInt64]? {
        guard let batch = batches.withLock({ $0.removeValue(forKey: token) }), batch.end > now else { return nil }
        return batch.records
    }
}
