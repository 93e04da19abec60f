import LinuxIO
import Synchronization

/// Lets so many TLS handshakes of a server run at a time; the others wait in their order, as no more than a socket.
///
/// A handshake takes some dozen kilobytes until it is over. When all devices come back at once, after a network or a hub was down, all
/// handshakes side by side would take several times the memory of the connections themselves, and none would be over sooner. Who has not
/// said anything yet takes no place, and who does not go on loses it after `patience`: its handshake goes on, but nobody waits for it. So
/// those who begin handshakes and let them lie keep others out for no longer than that.
package final class HandshakeGate: Sendable {
    private struct State {
        /// Who is in, by number, and since when (milliseconds of the monotonic clock).
        var inside: [UInt64: UInt64] = [:]
        /// Numbers in the order in which they came in; some may have left.
        var order: [UInt64] = []
        var oldest = 0
        var last: UInt64 = 0
        /// Who waits, and how to call them in.
        var waiting: [@Sendable (HandshakePlace) -> Void] = []
        var nextWaiting = 0
        /// Somebody calls them in already, and goes on for as long as there are places.
        var isCalling = false

        var isAnybodyWaiting: Bool { nextWaiting < waiting.count }

        mutating func number(now: UInt64) -> UInt64 {
            last &+= 1
            inside[last] = now
            order.append(last)
            return last
        }

        mutating func takeWaiting() -> (@Sendable (HandshakePlace) -> Void)? {
            guard isAnybodyWaiting else { return nil }
            let first = waiting[nextWaiting]
            nextWaiting += 1
            if nextWaiting > 1024 || !isAnybodyWaiting {
                waiting.removeFirst(nextWaiting)
                nextWaiting = 0
            }
            return first
        }

        /// Takes their places from those that came in before `time`.
        mutating func expire(before time: UInt64) {
            while oldest < order.count {
                if let since = inside[order[oldest]] {
                    guard since < time else { break }
                    inside[order[oldest]] = nil
                }
                oldest += 1
            }
            if oldest > 1024 {
                order.removeFirst(oldest)
                oldest = 0
            }
        }
    }

    /// Milliseconds after which a handshake that is not over is not counted any more.
    package static let patience: UInt64 = 250

    private let most: Int
    private let state = Mutex(State())

    /// - Parameter most: handshakes at a time.
    package init(most: Int) { self.most = most }

    /// A place, or nil: then `called` gets one, perhaps before this returns, on any thread, once for each call.
    package func enter(now: UInt64 = Clock.milliseconds, called: @escaping @Sendable (HandshakePlace) -> Void) -> HandshakePlace? {
        let number = state.withLock { state -> UInt64? in
            if state.inside.count >= most { state.expire(before: now - min(now, Self.patience)) }
            if state.inside.count >= most || state.isAnybodyWaiting {
                state.waiting.append(called)
                return nil
            }
            return state.number(now: now)
        }
        if let number { return HandshakePlace(self, number) }
        callIn(now: now)
        return nil
    }

    /// Gives the places of those that do not go on to others, as each newcomer does too; to be called about once a second.
    package func look(now: UInt64 = Clock.milliseconds) {
        state.withLock { $0.expire(before: now - min(now, Self.patience)) }
        callIn(now: now)
    }

    /// How many are in, and how many wait.
    package var counts: (inside: Int, waiting: Int) { state.withLock { ($0.inside.count, $0.waiting.count - $0.nextWaiting) } }

    fileprivate func leave(_ number: UInt64) {
        let isAnybodyWaiting = state.withLock { state in
            state.inside[number] = nil
            return state.isAnybodyWaiting
        }
        if isAnybodyWaiting { callIn(now: Clock.milliseconds) }
    }

    private func callIn(now: UInt64) {
        // A place may come back from within the call, again and again.
        guard state.withLock({ !exchange(&$0.isCalling, with: true) }) else { return }
        while true {
            let next = state.withLock { state -> (UInt64, @Sendable (HandshakePlace) -> Void)? in
                guard state.inside.count < most, let called = state.takeWaiting() else {
                    state.isCalling = false
                    return nil
                }
                return (state.number(now: now), called)
            }
            guard let (number, called) = next else { return }
            called(HandshakePlace(self, number))
        }
    }
}

/// A place behind the gate; given back when nobody holds it any more.
package final class HandshakePlace: Sendable {
    private let gate: HandshakeGate
    private let number: UInt64

    fileprivate init(_ gate: HandshakeGate, _ number: UInt64) {
        self.gate = gate
        self.number = number
    }

    deinit { gate.leave(number) }
}
