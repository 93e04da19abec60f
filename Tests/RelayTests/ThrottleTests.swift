import Relay
import Testing

/// Streams that move as much as their throttles let them, on a clock that is a number.
private struct Road {
    var throttles: [Throttle]
    var moved: [Int]
    var wakesAt: [UInt64]
    var now: UInt64

    init(_ throttles: [Throttle], at now: UInt64) {
        self.throttles = throttles
        self.now = now
        moved = throttles.map { _ in 0 }
        wakesAt = throttles.map { _ in now }
    }

    /// Lets time pass; each stream moves `chunk` bytes at most at a time, or whole chunks, whatever is allowed.
    mutating func run(milliseconds: UInt64, chunk: Int = 65536, wholeChunks: Bool = false) {
        let end = now + milliseconds
        while now < end {
            for index in throttles.indices where wakesAt[index] <= now {
                while true {
                    let room = throttles[index].allowance(now: now)
                    if room == 0 { break }
                    let bytes = wholeChunks ? chunk : min(room, chunk)
                    throttles[index].spend(bytes)
                    moved[index] += bytes
                }
                // As a reactor wakes: at one of its ticks, never early and up to one late.
                wakesAt[index] = ((now + UInt64(throttles[index].wait(now: now)) + 49) / 50 + 1) * 50
            }
            now += 1
        }
    }

    var total: Int { moved.reduce(0, +) }
}

private func isNear(_ value: Int, _ wanted: Int, within share: Double = 0.05) -> Bool {
    abs(Double(value) - Double(wanted)) <= share * Double(wanted)
}

@Suite struct ThrottleTests {
    @Test func nothingLimitsWithoutRates() {
        #expect(Throttle(.init(), now: 1000).allowance(now: 1000) == .max)
        #expect(Throttle.Rates().isUnlimited)
    }

    @Test(arguments: [1000, 20_000, 1_000_000, 100_000_000, 10_000_000_000])
    func oneStreamKeepsItsRate(rate: Int) {
        var road = Road([Throttle(.init(stream: rate), now: 5000)], at: 5000)
        road.run(milliseconds: 10_000)
        #expect(isNear(road.total, rate * 10), "\(road.total)")
    }

    @Test(arguments: [1000, 20_000, 1_000_000, 100_000_000])
    func oneStreamKeepsTheRateOfItsDevice(rate: Int) {
        let device = SharedRate(rate, now: 5000)
        var road = Road([Throttle(.init(device: device), now: 5000)], at: 5000)
        road.run(milliseconds: 10_000)
        #expect(isNear(road.total, rate * 10), "\(road.total)")
    }

    @Test func wholeRecordsAreOwedAndPaidBack() {
        var road = Road([Throttle(.init(stream: 1_000_000), now: 0)], at: 0)
        road.run(milliseconds: 10_000, chunk: 65536, wholeChunks: true)
        #expect(isNear(road.total, 10_000_000), "\(road.total)")
    }

    @Test(arguments: [100_000, 1_000_000, 50_000_000], [true, false])
    func aHundredStreamsShareARateAndNobodyStarves(rate: Int, isDevice: Bool) {
        let shared = SharedRate(rate, now: 9_000_000)
        let throttles = (0..<100).map { _ in Throttle(isDevice ? .init(device: shared) : .init(total: shared), now: 9_000_000) }
        var road = Road(throttles, at: 9_000_000)
        road.run(milliseconds: 10_000)
        #expect(isNear(road.total, rate * 10), "\(road.total)")
        road.moved = throttles.map { _ in 0 }  // whoever came first had what there was at the beginning
        road.run(milliseconds: 10_000)
        for bytes in road.moved { #expect(isNear(bytes, rate / 10, within: 0.2), "\(bytes)") }
    }

    @Test func theTightestOfThreeRatesHolds() {
        let device = SharedRate(3_000_000, now: 0), total = SharedRate(2_000_000, now: 0)
        var road = Road((0..<3).map { _ in Throttle(.init(stream: 900_000, device: device, total: total), now: 0) }, at: 0)
        road.run(milliseconds: 10_000)
        #expect(isNear(road.total, 20_000_000), "\(road.total)")
        var alone = Road([Throttle(.init(stream: 900_000, device: device, total: total), now: 20_000)], at: 20_000)
        alone.run(milliseconds: 10_000)
        #expect(isNear(alone.total, 9_000_000), "\(alone.total)")
    }

    @Test func aChangeHoldsAtOnce() {
        let throttle = Throttle(.init(stream: 1_000_000), now: 0)
        var road = Road([throttle], at: 0)
        road.run(milliseconds: 2000)
        throttle.set(.init(stream: 100_000), now: road.now)
        let before = road.total
        road.run(milliseconds: 5000)
        #expect(isNear(road.total - before, 500_000), "\(road.total - before)")
        throttle.set(.init(), now: road.now)
        #expect(throttle.allowance(now: road.now) == .max)
    }

    @Test func aSharedRateThatIsRaisedForgetsItsQueue() {
        let device = SharedRate(1000, now: 0)
        let throttles = (0..<10).map { _ in Throttle(.init(device: device), now: 0) }
        var road = Road(throttles, at: 0)
        road.run(milliseconds: 2000)
        device.set(1_000_000, now: road.now)
        for (index, throttle) in throttles.enumerated() {
            throttle.set(.init(device: device), now: road.now)
            road.wakesAt[index] = road.now
        }
        let before = road.total
        road.run(milliseconds: 5000)
        #expect(isNear(road.total - before, 5_000_000), "\(road.total - before)")
    }

    @Test func idleTimeIsNoTreasure() {
        let device = SharedRate(1_000_000, now: 0)
        var road = Road((0..<100).map { _ in Throttle(.init(stream: 500_000, device: device), now: 0) }, at: 0)
        road.run(milliseconds: 1000)
        road.now += 60_000
        let before = road.total
        road.run(milliseconds: 10_000)
        #expect(isNear(road.total - before, 10_000_000), "\(road.total - before)")
    }

    @Test func streamsThatComeOneByOneHoldNoBurst() {
        let device = SharedRate(50_000_000, now: 0)
        var throttles: [Throttle] = []
        for index in 0..<100 {
            throttles.append(Throttle(.init(device: device), now: UInt64(index * 10)))
            _ = throttles[index].allowance(now: UInt64(index * 10))
        }
        var road = Road(throttles, at: 1000)
        road.run(milliseconds: 10_000)
        #expect(isNear(road.total, 500_000_000), "\(road.total)")
    }

    @Test func aStreamThatEndsLeavesItsPlaceInTheQueue() {
        let device = SharedRate(10_000, now: 0)
        var others: [Throttle]? = (0..<50).map { _ in Throttle(.init(device: device), now: 0) }
        for throttle in others ?? [] { _ = throttle.allowance(now: 0) }
        others = nil
        let throttle = Throttle(.init(device: device), now: 0)
        _ = throttle.allowance(now: 0)
        #expect(throttle.wait(now: 0) == 0)
    }

    @Test func waitTellsWhenThereIsMore() {
        let throttle = Throttle(.init(stream: 1000), now: 0)
        throttle.spend(throttle.allowance(now: 10_000))
        #expect(throttle.allowance(now: 10_000) == 0)
        let wait = throttle.wait(now: 10_000)
        #expect((1...50).contains(wait))
        #expect(throttle.allowance(now: 10_000 + UInt64(wait)) > 0)
    }
}
