/// The life of a stream (device-streams 7). It owns no descriptor and asks no clock.
///
///     waiting ──► pending ──► accepted ──► running ──► ended
///        └───────────┴───────────┴────────────┴─────────▲
package struct StreamSession: Sendable {
    package enum State: String, Sendable {
        /// For a device that is not connected or not subscribed.
        case waiting
        /// For the device's answer; its leg may already come.
        case pending
        /// For both legs.
        case accepted
        case running
        case ended
    }

    package enum Event: Equatable, Sendable {
        /// The device is connected and subscribed.
        case deviceReady
        case answered(isAccepted: Bool, reason: String?)
        /// The device's connection, to which the request was written, has gone.
        case deviceLost
        /// The service hung up before its answer.
        case requesterGone
        /// A leg's connection is ours, but cannot carry bytes yet.
        case legAdmitted(Leg)
        /// It can now; a leg that needs nothing more arrives without having been admitted before.
        case legArrived(Leg)
        /// Its connection is over, whether or not it has arrived.
        case legEnded(Leg)
        /// The deadline that `deadline` told has come.
        case tick
        /// A person or a change of the registry ends the stream.
        case ordered(End)
    }

    package enum Action: Equatable, Sendable {
        case sendRequest
        case answer(Verdict)
        /// Both legs are there: let bytes flow.
        case join
        /// Tell what legs there are that it is over.
        case closeLegs(End)
        /// Forget the stream.
        case forget(End)
    }

    /// What the service is told.
    package enum Verdict: Equatable, Sendable {
        case accepted
        case rejected(reason: String?)
        /// 404103: not online within the connect timeout.
        case deviceNotOnline
        /// 504101: no answer within the response timeout.
        case noAnswer
        /// 404001 "Device unavailable": it went away with the request.
        case deviceGone
    }

    /// Why a stream is over; the word goes to the log.
    package enum End: String, Equatable, Sendable {
        case done, rejected, requesterGone = "requester-gone", deviceNotOnline = "device-not-online", noAnswer = "no-answer"
        case deviceGone = "device-gone", legMissing = "leg-missing", closed = "closed-by-order", deviceRefused =
            "device-disabled-or-deleted", policyRemoved = "policy-or-key-removed"
        case draining
    }

    /// How long each part may take, in milliseconds.
    package struct Patience: Equatable, Sendable {
        package var connect, response: UInt64
        /// From the device's answer until both legs are there.
        package var legs: UInt64 = 60_000

        package init(connect: UInt64, response: UInt64) {
            self.connect = connect
            self.response = response
        }
    }

    package private(set) var state = State.waiting
    /// When to send `tick`, in the milliseconds of the times passed in.
    package private(set) var deadline: UInt64?
    private let patience: Patience
    private var isDeviceLegThere = false, isServiceLegThere = false
    private var hasDeviceLegCome = false, hasServiceLegCome = false, hasDeviceLegGone = false

    package init(_ patience: Patience) { self.patience = patience }

    /// Begins; `isDeviceReady` when it is connected and subscribed right now.
    package mutating func begin(isDeviceReady: Bool, at now: UInt64) -> [Action] {
        if isDeviceReady { return request(at: now) }
        guard patience.connect > 0 else { return end(.deviceNotOnline, answer: .deviceNotOnline) }
        deadline = now + patience.connect
        return []
    }

    private mutating func request(at now: UInt64) -> [Action] {
        state = .pending
        deadline = now + patience.response
        return [.sendRequest]
    }

    /// Whether a leg may be admitted now; each comes once.
    package func admits(_ leg: Leg) -> Admission {
        switch (leg, state) {
        case (.device, .pending), (.device, .accepted), (.device, .running): hasDeviceLegCome ? .used : .open
        case (.service, .accepted), (.service, .running): hasServiceLegCome ? .used : .open
        default: .closed
        }
    }

    package enum Admission: Equatable, Sendable { case open, used, closed }

    package mutating func handle(_ event: Event, at now: UInt64) -> [Action] {
        switch (state, event) {
        case (.ended, _): return []
        case (.waiting, .deviceReady): return request(at: now)
        case (.waiting, .tick): return isDue(now) ? end(.deviceNotOnline, answer: .deviceNotOnline) : []
        case (.pending, .answered(isAccepted: true, _)):
            state = .accepted
            deadline = now + patience.legs
            return [.answer(.accepted)] + joinIfComplete()
        case (.pending, .answered(isAccepted: false, let reason)): return end(.rejected, answer: .rejected(reason: reason))
        case (.pending, .deviceLost): return end(.deviceGone, answer: .deviceGone)
        case (.pending, .tick): return isDue(now) ? end(.noAnswer, answer: .noAnswer) : []
        case (.waiting, .requesterGone), (.pending, .requesterGone): return end(.requesterGone, answer: nil)
        case (_, .legAdmitted(let leg)):
            guard admits(leg) == .open else { return [] }
            if leg == .device { hasDeviceLegCome = true } else { hasServiceLegCome = true }
            return []
        case (_, .legArrived(let leg)):
            guard admits(leg) != .closed else { return [] }
            if leg == .device {
                (isDeviceLegThere, hasDeviceLegCome) = (true, true)
            } else {
                (isServiceLegThere, hasServiceLegCome) = (true, true)
            }
            return joinIfComplete()
        case (.pending, .legEnded(.device)):
            (isDeviceLegThere, hasDeviceLegGone) = (false, true)  // it may still answer, but it cannot come again
            return []
        case (.accepted, .legEnded): return end(.legMissing, answer: nil)
        case (.running, .legEnded): return end(.done, answer: nil)
        case (.accepted, .tick): return isDue(now) ? end(.legMissing, answer: nil) : []
        case (.waiting, .ordered(let reason)): return end(reason, answer: .deviceNotOnline)
        case (.pending, .ordered(let reason)): return end(reason, answer: .deviceGone)
        case (_, .ordered(let reason)): return end(reason, answer: nil)
        default: return []  // late, repeated or foreign: no harm (device-streams 4.4)
        }
    }

    private func isDue(_ now: UInt64) -> Bool { deadline.map { now >= $0 } ?? false }

    private mutating func joinIfComplete() -> [Action] {
        guard state == .accepted, isDeviceLegThere, isServiceLegThere else {
            // An early device leg that has already gone leaves nothing to wait for.
            return state == .accepted && hasDeviceLegGone ? end(.legMissing, answer: nil) : []
        }
        state = .running
        deadline = nil
        return [.join]
    }

    private mutating func end(_ reason: End, answer: Verdict?) -> [Action] {
        state = .ended
        deadline = nil
        return (answer.map { [.answer($0)] } ?? []) + [.closeLegs(reason), .forget(reason)]
    }
}
