import Testing

@testable import Agent

@Suite struct BackOffTests {
    @Test func growsToFiveSecondsAndLaterToAMinute() {
        var backOff = BackOff()
        var now: UInt64 = 1_000_000, longest: [Int] = []
        for _ in 0..<60 {
            let delay = backOff.delay(after: false, at: now, jitter: 1)
            longest.append(delay)
            now += UInt64(delay)
        }
        #expect(Array(longest.prefix(5)) == [1000, 2000, 4000, 5000, 5000])
        #expect(longest.last == 60_000)
        let early = zip(longest, longest.indices).prefix { longest[..<$0.1].reduce(0, +) < 120_000 }
        #expect(early.allSatisfy { $0.0 <= 5000 })
    }

    @Test func jitterReachesDownToNothing() {
        var backOff = BackOff()
        #expect(backOff.delay(after: false, at: 0, jitter: 0) == 0)
        #expect(backOff.delay(after: false, at: 0, jitter: 0.5) == 1000)
    }

    @Test func beginsAnewOnlyAfterAStableMinute() {
        var backOff = BackOff()
        for _ in 0..<5 { _ = backOff.delay(after: false, at: 0, jitter: 1) }
        backOff.connected(at: 1000)
        #expect(backOff.delay(after: false, at: 60_999, jitter: 1) == 5000)
        backOff.connected(at: 70_000)
        #expect(backOff.delay(after: false, at: 130_000, jitter: 1) == 1000)
    }

    @Test func asksSeldomWhenRefused() {
        var backOff = BackOff()
        var now: UInt64 = 0, delays: [Int] = []
        for _ in 0..<30 {
            let delay = backOff.delay(after: true, at: now, jitter: 0.999)
            delays.append(delay)
            now += UInt64(delay)
        }
        #expect(delays.prefix(6).allSatisfy { $0 <= 10_000 && $0 >= 5000 })
        #expect(delays.last.map { 150_000...300_000 ~= $0 } == true)
    }

    @Test(arguments: [(0 as Int64, 0 as Int64), (60, 0), (-60, 0), (61, 61), (-61, -61), (7200, 7200)])
    func correctsAClockThatIsOffByMoreThanAMinute(difference: Int64, offset: Int64) {
        var clock = HubClock()
        #expect(clock.note(hubSeconds: 1_000_000 + difference, ownSeconds: 1_000_000) == (offset == 0 ? nil : offset))
        #expect(clock.now(ownSeconds: 50) == 50 + offset)
        _ = clock.note(hubSeconds: 1_000_000, ownSeconds: 1_000_000)
        #expect(clock.offset == 0)
    }
}
