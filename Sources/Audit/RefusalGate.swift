import Wire

/// Keeps a stranger who is refused again and again from filling the disk and from pushing out what came before.
///
/// Each source (address without port) has `burst` refusals written as they are and then one a second; so have all sources together,
/// with more. Those above that are counted by source, action and code, and a line for each count follows within `interval`.
struct RefusalGate {
    /// A bucket that fills by `rate` a second up to `burst`.
    private struct Bucket {
        let burst: Int64, rate: Int64
        /// Thousandths.
        var level: Int64
        /// Milliseconds.
        var looked: Int64

        init(burst: Int64, rate: Int64, now: Int64) {
            (self.burst, self.rate) = (burst, rate)
            level = burst * 1000
            looked = now
        }

        mutating func refill(now: Int64) {
            let passed = min(max(0, now - looked), 3_600_000)
            level = min(burst * 1000, level + passed * rate)
            looked = now
        }

        var isOpen: Bool { level >= 1000 }
        var isFull: Bool { level == burst * 1000 }
    }

    private struct Count: Hashable {
        let host: String, kind: AuditEvent.Kind, action: String, code: String
    }

    static let burst: Int64 = 200, rate: Int64 = 1, burstOfAll: Int64 = 2000, rateOfAll: Int64 = 100
    /// Sources, and counts, that are known apart; others share one.
    static let mostSources = 4096
    /// Milliseconds.
    static let interval: Int64 = 10_000

    private var sources: [String: Bucket] = [:]
    private var all: Bucket?
    private var counts: [Count: AuditEvent] = [:]
    private var told: Int64 = 0

    /// Whether an event is to be written as it is.
    mutating func passes(_ event: AuditEvent) -> Bool {
        guard case .refused(let code, _) = event.outcome, !event.from.isEmpty else { return true }
        let now = event.time.milliseconds
        var host = String(event.host)
        if sources[host] == nil, sources.count >= Self.mostSources {
            for (known, var bucket) in sources {
                bucket.refill(now: now)
                if bucket.isFull { sources[known] = nil }
            }
            if sources.count >= Self.mostSources { host = "others" }
        }
        var own = sources[host] ?? Bucket(burst: Self.burst, rate: Self.rate, now: now)
        var all = self.all ?? Bucket(burst: Self.burstOfAll, rate: Self.rateOfAll, now: now)
        own.refill(now: now)
        all.refill(now: now)
        let isOpen = own.isOpen && all.isOpen
        if isOpen {
            own.level -= 1000
            all.level -= 1000
        }
        sources[host] = own
        self.all = all
        if !isOpen { count(event, host: host, code: code) }
        return isOpen
    }

    private mutating func count(_ event: AuditEvent, host: String, code: String) {
        var key = Count(host: host, kind: event.kind, action: AuditEvent.fit(event.action), code: AuditEvent.fit(code))
        if counts.isEmpty { told = event.time.milliseconds }
        if counts[key] == nil, counts.count >= Self.mostSources {
            key = Count(host: "others", kind: event.kind, action: "many", code: "many")
        }
        if counts[key] != nil {
            counts[key]?.count += 1
            counts[key]?.time = event.time
        } else {
            counts[key] = AuditEvent(
                event.kind, key.action, .refused(key.code, "more of the same from this address"), from: key.host,
                protocol: event.transport, at: event.time)
        }
    }

    /// Whether there are counts.
    var hasCounted: Bool { !counts.isEmpty }

    /// Milliseconds until counts are due; nil when there are none.
    func wait(now: Timestamp) -> Int? {
        counts.isEmpty ? nil : Int(clamping: max(0, Self.interval - max(0, now.milliseconds - told)))
    }

    /// The counts, when they are due or `isEnd`.
    mutating func due(now: Timestamp, isEnd: Bool) -> [AuditEvent] {
        guard let wait = wait(now: now), wait == 0 || isEnd else { return [] }
        let events = counts.values.sorted { $0.time < $1.time }
        counts = [:]
        return events
    }
}
