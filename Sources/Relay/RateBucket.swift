/// Arithmetic of rates. Moments are nanoseconds of the monotonic clock, rates bytes per second.
enum Pace {
    static let nanosecondsPerMillisecond: UInt64 = 1_000_000
    /// Unused time that may be caught up on: a reactor's deadlines come up to two of its ticks late, and more on a busy machine.
    static let catchUp: UInt64 = 200 * nanosecondsPerMillisecond
    /// What may move at once at the beginning.
    static let start: UInt64 = 50 * nanosecondsPerMillisecond

    /// Nanoseconds that so many bytes take.
    static func time(_ bytes: Int, at rate: Int) -> UInt64 {
        quotient(UInt64(clamping: bytes), 1_000_000_000, UInt64(clamping: max(1, rate)))
    }

    /// Bytes that so many nanoseconds bring.
    static func bytes(in nanoseconds: UInt64, at rate: Int) -> Int {
        Int(clamping: quotient(nanoseconds, UInt64(clamping: max(0, rate)), 1_000_000_000))
    }

    /// a * b / c without overflow; as much as 64 bits hold where the result is more.
    private static func quotient(_ a: UInt64, _ b: UInt64, _ c: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high < c ? c.dividingFullWidth(product).quotient : .max
    }

    static func sum(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let (sum, overflow) = a.addingReportingOverflow(b)
        return overflow ? .max : sum
    }

    static func difference(_ a: UInt64, _ b: UInt64) -> UInt64 { a > b ? a - b : 0 }
}

/// A token bucket of one owner. What is spent beyond what was there is paid back before more is given.
struct RateBucket {
    /// The least that is given after the bucket was empty, so that nobody moves a few bytes at a time; less at low rates.
    private static let leastBytes = 16 << 10
    private static let leastTime: UInt64 = 25 * Pace.nanosecondsPerMillisecond

    let rate: Int
    /// When everything that has been spent will have been earned.
    private var earned: UInt64
    private var isEmpty = false

    init(rate: Int, now: UInt64) {
        self.rate = max(1, rate)
        earned = Pace.difference(now, Pace.start)
    }

    private var least: Int { max(1, min(Self.leastBytes, Pace.bytes(in: Self.leastTime, at: rate))) }

    /// Bytes that may move now.
    mutating func allowance(now: UInt64) -> Int {
        earned = max(earned, Pace.difference(now, Pace.catchUp))
        let bytes = Pace.bytes(in: Pace.difference(now, earned), at: rate)
        isEmpty = bytes < (isEmpty ? least : 1)
        return isEmpty ? 0 : bytes
    }

    mutating func spend(_ bytes: Int) { earned = Pace.sum(earned, Pace.time(bytes, at: rate)) }

    /// When there will be something after `allowance` said that there is nothing.
    var opensAt: UInt64 { Pace.sum(earned, Pace.time(least, at: rate) &+ 1) }
}
