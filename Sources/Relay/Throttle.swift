import LinuxIO

/// Somebody who reads for a stream, and stops when its throttle has nothing left.
package protocol Throttled: AnyObject {
    /// Bytes may move again: look at the allowance.
    func throttleOpened(on reactor: Reactor)
}

/// How fast one stream may move payload bytes, both directions together: a rate of its own, and leases of its device's and the hub's.
/// A stream without limits has none. Lives on the stream's reactor; times are `Reactor.moment`.
package final class Throttle {
    /// Bytes per second; nil where nothing limits.
    package struct Rates {
        package var stream: Int?
        package var device: SharedRate?
        package var total: SharedRate?

        package init(stream: Int? = nil, device: SharedRate? = nil, total: SharedRate? = nil) {
            self.stream = stream
            self.device = device
            self.total = total
        }

        package var isUnlimited: Bool { stream == nil && device == nil && total == nil }
    }

    private var own: RateBucket?
    private var device: RateLease?, total: RateLease?
    private var opensAt: UInt64 = 0
    private var parked: [any Throttled] = []
    private var isOpening = false
    private var timer: Timer?

    /// - Parameter now: milliseconds of the monotonic clock.
    package init(_ rates: Rates, now: UInt64) { adopt(rates, now: now) }

    deinit { release(isQueueValid: true) }

    private func release(isQueueValid: Bool) {
        for lease in [device, total] { lease?.end(isValid: isQueueValid) }
        (own, device, total) = (nil, nil, nil)
    }

    private func adopt(_ rates: Rates, now: UInt64) {
        own = rates.stream.map { RateBucket(rate: $0, now: now &* Pace.nanosecondsPerMillisecond) }
        device = rates.device.map { RateLease(of: $0) }
        total = rates.total.map { RateLease(of: $0) }
        opensAt = 0
    }

    /// Takes other rates; what was owed at the old ones is forgotten, and so is who waited: the caller lets every leg look again.
    /// Must be called too when a shared rate was `set`.
    package func set(_ rates: Rates, now: UInt64) {
        release(isQueueValid: false)
        parked = []
        adopt(rates, now: now)
    }

    // The numbers

    /// Bytes that may move now; `Int.max` when nothing limits.
    package func allowance(now: UInt64) -> Int {
        let now = now &* Pace.nanosecondsPerMillisecond
        var least = Int.max
        if let bytes = own?.allowance(now: now) {
            least = bytes
            opensAt = own?.opensAt ?? 0
        }
        if least > 0, let bytes = device?.allowance(now: now) {
            least = min(least, bytes)
            opensAt = device?.opensAt ?? 0
        }
        if least > 0, let bytes = total?.allowance(now: now) {
            least = min(least, bytes)
            opensAt = total?.opensAt ?? 0
        }
        return least
    }

    /// Counts bytes that have moved, which may be more than the allowance: then the next ones wait longer.
    package func spend(_ bytes: Int) {
        own?.spend(bytes)
        device?.spend(bytes)
        total?.spend(bytes)
    }

    /// Milliseconds until more may move, after `allowance` has said 0.
    package func wait(now: UInt64) -> Int {
        let left = Pace.difference(opensAt, now &* Pace.nanosecondsPerMillisecond)
        return Int(clamping: left / Pace.nanosecondsPerMillisecond) + (left % Pace.nanosecondsPerMillisecond == 0 ? 0 : 1)
    }

    // Its legs

    /// Bytes that `leg` may move now; with 0 it is told when to look again. Legs that wait have their turn before those that come later.
    package func room(for leg: any Throttled, on reactor: Reactor) -> Int {
        let bytes = parked.isEmpty || isOpening ? allowance(now: reactor.moment) : 0
        guard bytes == 0 else { return bytes }
        if parked.isEmpty { wake(inMilliseconds: wait(now: reactor.moment), on: reactor) }
        if !parked.contains(where: { $0 === leg }) { parked.append(leg) }
        return 0
    }

    /// A day is as good as for ever, and what changes meanwhile wakes it.
    private func wake(inMilliseconds milliseconds: Int, on reactor: Reactor) {
        let timer = self.timer ?? Timer(on: reactor) { [weak self] _, reactor in self?.open(on: reactor) }
        self.timer = timer
        timer.set(inMilliseconds: min(milliseconds, 86_400_000), on: reactor)
    }

    /// Lets everybody who waits look again. The last one to come goes first: who took all the last time finds itself behind the others.
    package func open(on reactor: Reactor) {
        isOpening = true
        for leg in exchange(&parked, with: []).reversed() { leg.throttleOpened(on: reactor) }
        isOpening = false
    }

    /// The stream is over, or without limits from now on.
    package func end(on reactor: Reactor) {
        if let timer { reactor.remove(timer) }
        timer = nil
        release(isQueueValid: true)
        open(on: reactor)
    }
}
