import LinuxIO
import Synchronization
import Wire

/// Kinds of operations whose frequency the configuration may limit, all clients together (mqtt-device 19). The word of `throttle-WORD`.
enum ThrottledOperation: String, CaseIterable, Sendable {
    case connects, telemetry, registry, twinReads = "twin-reads", twinUpdates = "twin-updates", methods, queries, messages
    case messageFetches = "message-fetches", uploads, jobs, configurations

    var key: String { "throttle-\(rawValue)" }
}

/// How much of each kind of operation there was lately. Each has a bucket that holds what may happen in one period of its frequency and
/// fills evenly.
final class Throttles: Sendable {
    typealias Limits = [ThrottledOperation: Frequency]

    private struct Bucket {
        let frequency: Frequency
        var level: Double
        /// When it was filled last, in milliseconds.
        var filled: UInt64

        /// Operations in a millisecond.
        var rate: Double { Double(frequency.count) / Double(frequency.seconds * 1000) }

        mutating func fill(_ now: UInt64) {
            level = min(Double(frequency.count), level + Double(now &- filled) * rate)
            filled = now
        }

        /// Milliseconds until it holds so much.
        func wait(for level: Double) -> Int { level <= self.level ? 0 : Int(((level - self.level) / rate).rounded(.up)) }
    }

    private let buckets: Mutex<[ThrottledOperation: Bucket]> = Mutex([:])
    /// Whether there is any: most hubs have none, and devices' messages come by here.
    private let isOn = Atomic<Bool>(false)

    init(_ limits: Limits) { take(limits) }

    /// New limits; what stays as it was goes on with what is in its bucket.
    func take(_ limits: Limits, now: UInt64 = Clock.milliseconds) {
        buckets.withLock { buckets in
            for operation in ThrottledOperation.allCases where buckets[operation]?.frequency != limits[operation] {
                buckets[operation] = limits[operation].map { Bucket(frequency: $0, level: Double($0.count), filled: now) }
            }
            isOn.store(!buckets.isEmpty, ordering: .relaxed)
        }
    }

    /// Counts an operation, which may weigh more than one; nil, or after how many milliseconds it may come again.
    func refusal(of operation: ThrottledOperation, weight: Int = 1, now: UInt64 = Clock.milliseconds) -> Int? {
        guard isOn.load(ordering: .relaxed) else { return nil }
        return buckets.withLock { buckets in
            guard var bucket = buckets[operation] else { return nil }
            bucket.fill(now)
            let wait = bucket.wait(for: 1)
            if wait == 0 { bucket.level -= Double(weight) }
            buckets[operation] = bucket
            return wait == 0 ? nil : wait
        }
    }

    /// Counts operations that have come already: for how many milliseconds whoever made them has to be slowed down. Nil, and nothing is
    /// counted, when that would be longer than `most`.
    func delay(of operation: ThrottledOperation, count: Int, most: Int, now: UInt64 = Clock.milliseconds) -> Int? {
        guard isOn.load(ordering: .relaxed) else { return 0 }
        return buckets.withLock { buckets in
            guard var bucket = buckets[operation] else { return 0 }
            bucket.fill(now)
            let wait = bucket.wait(for: Double(count))
            guard wait <= most else { return nil }
            bucket.level -= Double(count)
            buckets[operation] = bucket
            return wait
        }
    }
}
