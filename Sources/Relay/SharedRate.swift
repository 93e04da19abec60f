import Synchronization

/// A rate that streams on several reactors have in common: a device's, or the hub's.
///
/// Who wants to move bytes reserves a small lease of them, each behind the one before: the queue is the fairness. A lease says from when
/// on it may be used. Only reserving touches what is shared.
package final class SharedRate: Sendable {
    private static let leaseBytes = 64...(1 << 20)
    /// The first lease of a stream, any other one, and all of them together.
    private static let firstTime: UInt64 = Pace.nanosecondsPerMillisecond
    private static let leaseTime: UInt64 = 20 * Pace.nanosecondsPerMillisecond, queueTime: UInt64 = 300 * Pace.nanosecondsPerMillisecond

    private let bytesPerSecond: Atomic<Int>
    /// When everything that has been reserved will have been earned.
    private let earned: Atomic<UInt64>
    private let members = Atomic<Int>(0)

    /// - Parameters:
    ///   - rate: bytes per second, at least 1.
    ///   - now: milliseconds of the monotonic clock, which all reactors share.
    package init(_ rate: Int, now: UInt64) {
        bytesPerSecond = Atomic(max(1, rate))
        earned = Atomic(Self.start(now))
    }

    private static func start(_ now: UInt64) -> UInt64 { Pace.difference(now &* Pace.nanosecondsPerMillisecond, Pace.start) }

    package var rate: Int { bytesPerSecond.load(ordering: .relaxed) }

    /// Changes the rate and forgets the queue; those in it reserve anew when their throttles are told the rates.
    package func set(_ rate: Int, now: UInt64) {
        bytesPerSecond.store(max(1, rate), ordering: .relaxed)
        earned.store(Self.start(now), ordering: .relaxed)
    }

    func join() { members.add(1, ordering: .relaxed) }
    func leave() { members.subtract(1, ordering: .relaxed) }

    /// Bytes of a lease: a fair share of the time since the last one, for deadlines come late to some and very late to others; within
    /// bounds that keep the queue short and let a few busy streams have what the others leave.
    /// - Parameter last: when the lease before was reserved; nil for a first one. What has not shown yet that it will be used up is small,
    ///   or the leases of many streams that have just begun would add up to a burst.
    func lease(last: UInt64?, now: UInt64) -> Int {
        let count = UInt64(max(1, members.load(ordering: .relaxed))), usual = min(Self.leaseTime, Self.queueTime / count)
        let time = last.map { min(max(Pace.difference(now, $0) / count, usual / 4), usual * 3 / 2) } ?? min(Self.firstTime, usual)
        return min(max(Pace.bytes(in: time, at: rate), Self.leaseBytes.lowerBound), Self.leaseBytes.upperBound)
    }

    /// Reserves a lease behind what is owed for more than the last one held, and tells from when on the lease may be used.
    func reserve(_ lease: Int, owed: Int, now: UInt64) -> UInt64 {
        let rate = self.rate, debt = Pace.time(owed, at: rate), whole = Pace.sum(debt, Pace.time(lease, at: rate))
        var old = earned.load(ordering: .relaxed)
        while true {
            let begin = max(old, Pace.difference(now, Pace.catchUp))
            let (isDone, found) = earned.weakCompareExchange(expected: old, desired: Pace.sum(begin, whole), ordering: .relaxed)
            if isDone { return Pace.sum(begin, debt) }
            old = found
        }
    }

    /// Takes back what was reserved and not used.
    func giveBack(_ bytes: Int) {
        let time = Pace.time(bytes, at: rate)
        var old = earned.load(ordering: .relaxed)
        while true {
            let (isDone, found) = earned.weakCompareExchange(expected: old, desired: Pace.difference(old, time), ordering: .relaxed)
            if isDone { return }
            old = found
        }
    }
}

/// One stream's lease of a shared rate.
struct RateLease {
    /// A lease that was not used for so long is forgotten, or leases of idle streams would add up to a burst.
    private static let lifetime: UInt64 = 2000 * Pace.nanosecondsPerMillisecond

    let shared: SharedRate
    /// What is left of the lease; below zero: what was spent beyond it.
    private var credit = 0
    private var reservedAt: UInt64?
    private(set) var opensAt: UInt64 = 0

    init(of shared: SharedRate) {
        self.shared = shared
        shared.join()
    }

    /// Bytes that may move now; reserves when the lease is used up.
    mutating func allowance(now: UInt64) -> Int {
        if Pace.difference(now, opensAt) > Self.lifetime { (credit, reservedAt) = (min(credit, 0), nil) }
        if credit <= 0 {
            let lease = shared.lease(last: reservedAt, now: now)
            reservedAt = now
            opensAt = shared.reserve(lease, owed: -credit, now: now)
            credit = lease
        }
        return now >= opensAt ? credit : 0
    }

    mutating func spend(_ bytes: Int) { credit -= bytes }

    /// - Parameter isValid: whether the rate has stayed as it was, and with it the queue.
    func end(isValid: Bool) {
        if isValid, credit > 0 { shared.giveBack(credit) }
        shared.leave()
    }
}
