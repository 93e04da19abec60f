/// When to try again: exponential with full jitter, so that a thousand devices do not come back at once.
///
///     outage    0 … 2 min   at most 5 s: a hub that was restarted has its devices back soon
///               later       at most 60 s
///     refused   first min   at most 10 s: the hub may be coming up, the device may be re-enabled
///               later       up to 5 min: asking often would not help
struct BackOff {
    static let stableMilliseconds: UInt64 = 60_000
    private static let patientAfter: UInt64 = 120_000, resignedAfter: UInt64 = 60_000

    private var failures = 0
    private var refusals = 0
    private var outageSince: UInt64?
    private var refusedSince: UInt64?
    private var connectedSince: UInt64?

    /// The hub took us. All is forgiven once that has lasted a minute.
    mutating func connected(at now: UInt64) {
        connectedSince = now
        refusedSince = nil
        refusals = 0
    }

    /// No connection: milliseconds until the next attempt.
    /// - Parameters:
    ///   - now: milliseconds of a clock that never steps.
    ///   - isRefusal: the hub answered, and does not want us.
    ///   - jitter: from 0 up to 1, random.
    mutating func delay(after isRefusal: Bool, at now: UInt64, jitter: Double) -> Int {
        if let since = connectedSince, now >= since, now - since >= Self.stableMilliseconds {
            failures = 0
            outageSince = nil
        }
        connectedSince = nil
        let jitter = min(max(jitter, 0), 1)
        if isRefusal {
            let since = refusedSince ?? now
            refusedSince = since
            if now - min(since, now) < Self.resignedAfter { return Int(5000 + 5000 * jitter) }
            refusals = min(refusals + 1, 5)
            return Int(Double(min(300_000, 10_000 << refusals)) * (0.5 + jitter / 2))
        }
        let since = outageSince ?? now
        outageSince = since
        let cap = now - min(since, now) < Self.patientAfter ? 5000 : 60_000
        let ceiling = min(cap, 1000 << min(failures, 6))
        failures = min(failures + 1, 30)
        return Int(Double(ceiling) * jitter)
    }
}
