import Connections
import LinuxIO
import Synchronization
import Testing

@Suite struct HandshakeGateTests {
    /// Who has been called in, in order, with their places.
    private final class Called: Sendable {
        private let state = Mutex<[(name: Int, place: HandshakePlace)]>([])
        var names: [Int] { state.withLock { $0.map(\.name) } }
        func add(_ name: Int, _ place: HandshakePlace) { state.withLock { $0.append((name, place)) } }
        func leave() { _ = state.withLock { exchange(&$0, with: []) } }
    }

    @Test func letsSoManyInAndTheOthersInTheirOrder() {
        let gate = HandshakeGate(most: 2), called = Called()
        var first = gate.enter { _ in }
        let second = gate.enter { _ in }
        #expect(first != nil && second != nil)
        for name in 0..<3 {
            let place = gate.enter { called.add(name, $0) }
            #expect(place == nil)
        }
        #expect(gate.counts == (2, 3) && called.names.isEmpty)
        first = nil
        #expect(called.names == [0] && gate.counts == (2, 2))
        let late = gate.enter { called.add(9, $0) }
        #expect(late == nil)
        called.leave()
        #expect(called.names == [1] && gate.counts == (2, 2))
        called.leave()
        called.leave()
        #expect(called.names == [9] && gate.counts == (2, 0))
        called.leave()
        withExtendedLifetime(second) {}
        #expect(gate.counts == (1, 0))
    }

    @Test func whoDoesNotGoOnLosesItsPlace() {
        let gate = HandshakeGate(most: 1), called = Called()
        var slow = gate.enter(now: 1000) { _ in }
        let place = gate.enter(now: 1000 + HandshakeGate.patience) { called.add(1, $0) }
        #expect(place == nil)
        gate.look(now: 1000 + HandshakeGate.patience)
        #expect(called.names.isEmpty)
        gate.look(now: 1001 + HandshakeGate.patience)
        #expect(called.names == [1] && gate.counts == (1, 0))
        slow = nil  // gives back nothing that it still had
        #expect(slow == nil && gate.counts == (1, 0))
        called.leave()
        #expect(gate.counts == (0, 0))
    }

    @Test func newcomersGetThePlacesOfThoseWhoDoNotGoOn() {
        let gate = HandshakeGate(most: 2), called = Called()
        let slow = (gate.enter(now: 1000) { _ in }, gate.enter(now: 1000) { _ in })
        let waits = gate.enter(now: 1000) { called.add(1, $0) }
        #expect(waits == nil && called.names.isEmpty)
        let late = gate.enter(now: 1001 + HandshakeGate.patience) { called.add(2, $0) }
        #expect(late == nil && called.names == [1, 2] && gate.counts == (2, 0))
        called.leave()
        let next = gate.enter { _ in }
        #expect(next != nil)
        withExtendedLifetime((slow, next)) {}
    }

    @Test func whoWaitsAndHasGoneTakesNoPlace() {
        let gate = HandshakeGate(most: 1), called = Called()
        var first = gate.enter { _ in }
        let gone = gate.enter { _ in }, here = gate.enter { called.add(1, $0) }
        #expect(first != nil && gone == nil && here == nil)
        first = nil
        #expect(called.names == [1] && gate.counts == (1, 0))
    }

    @Test func manyWhoHaveGoneTakeNoStack() {
        let gate = HandshakeGate(most: 1)
        var first = gate.enter { _ in }
        for _ in 0..<200_000 { _ = gate.enter { _ in } }
        #expect(first != nil && gate.counts.waiting == 200_000)
        first = nil
        #expect(gate.counts == (0, 0))
    }

    @Test func manyThreadsLoseNobody() throws {
        let gate = HandshakeGate(most: 3), entered = Atomic<Int>(0)
        let threads = try (0..<4).map { _ in
            try Thread.start {
                for _ in 0..<5000 {
                    if let place = gate.enter(called: { _ in entered.add(1, ordering: .relaxed) }) {
                        entered.add(1, ordering: .relaxed)
                        withExtendedLifetime(place) {}
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(entered.load(ordering: .relaxed) == 20_000 && gate.counts == (0, 0))
    }
}
