import Connections
import LinuxIO
import Wire

/// Connections to a hub that are made before they are needed: TLS is up, and nothing has been asked yet. The next leg of a stream takes
/// one, and another takes its place.
///
/// A number of them can be wished for, and somebody who will need one in a moment can have it begun. All are to one place: the one that
/// legs went to last. Says nothing when the hub is away; whoever needs a connection then finds out himself. Lives on one reactor.
package final class SpareConnections: Source {
    /// The time that a spare connection is kept, which is less than hubs wait for a request; spread, lest all be renewed at once.
    static let keptMilliseconds = 60_000, spreadMilliseconds = 30_000
    /// One that was begun for somebody who then did not need it.
    static let leftoverMilliseconds = 15_000
    /// After one was taken; the stream that is being opened goes before.
    package static let refillMilliseconds = 100
    /// A hub that hangs up on a connection sooner than this does not want it.
    private static let briefMilliseconds: UInt64 = 2000
    private static let firstPause = 1000, lastPause = 60_000

    private let access: HubAccess
    private let wanted: Int
    private var place: HostPort
    private var ready: [Spare] = []  // newest last
    private var rising: [HubDial] = []
    private var waiters: [HubDial] = []
    /// For a place that answered with a failure: when to try again, and the last pause.
    private var pauseMilliseconds = 0
    private var isPausing = false, isRefilling = false, isExpecting = false
    private var isStopped = false

    /// Begins to make connections at the reactor's next leisure.
    /// - Parameters:
    ///   - count: how many to keep ready; 0: only those that somebody will need.
    ///   - place: host and port; 443 when it names no port.
    @discardableResult
    package init(_ count: Int, to place: HostPort, through access: HubAccess, on reactor: Reactor) {
        wanted = count
        self.place = Self.full(place)
        self.access = access
        super.init()
        reactor.add(self)
        access.adopt(self, on: reactor)
        reactor.revisit(self)
    }

    private static func full(_ place: HostPort) -> HostPort { HostPort(host: place.host, port: place.port ?? 443) }

    /// Connections that are ready.
    package var count: Int { ready.count }

    /// Closes all, and keeps none any more.
    package func stop(on reactor: Reactor) {
        guard !isStopped else { return }
        isStopped = true
        discard(on: reactor)
        reactor.remove(self)
    }

    /// The path has changed, or one of them turned out dead: closes all, and makes new ones.
    package func discard(on reactor: Reactor) {
        for spare in exchange(&ready, with: []) { spare.drop(on: reactor) }
        for dial in exchange(&rising, with: []) { dial.cancel(on: reactor) }
        for dial in exchange(&waiters, with: []) { dial.spareLost(on: reactor) }
        if !isStopped { refill(inMilliseconds: Self.refillMilliseconds, on: reactor) }
    }

    /// A leg will be needed in a moment: one connection is begun unless one is there.
    package func expect(on reactor: Reactor) {
        guard !isStopped, !isPausing, ready.isEmpty, rising.count <= waiters.count else { return }
        begin(on: reactor)
    }

    /// The same in a moment: what is under way goes before. Where a number of connections is kept ready it is kept without that.
    package func expectSoon(on reactor: Reactor) {
        guard wanted == 0, !isStopped, ready.isEmpty else { return }
        isExpecting = true
        reactor.setDeadline(of: self, inMilliseconds: 1)
    }

    /// Gives a connection to `dial`, now or when it is ready; false when there is none for it.
    /// - Parameter isLeg: a leg of a stream; where these go, all go from now on.
    func serve(_ dial: HubDial, to wanted: HostPort, isLeg: Bool, on reactor: Reactor) -> Bool {
        guard !isStopped else { return false }
        guard wanted == place else {
            guard isLeg else { return false }
            place = wanted
            pauseMilliseconds = 0
            discard(on: reactor)
            return false
        }
        waiters.removeAll { !$0.isWaiting }
        if let spare = ready.popLast() {
            spare.give(to: dial, on: reactor)
            refill(inMilliseconds: Self.refillMilliseconds, on: reactor)
            return true
        }
        guard rising.count > waiters.count else {
            refill(inMilliseconds: Self.refillMilliseconds, on: reactor)
            return false
        }
        waiters.append(dial)
        return true
    }

    // Making them

    /// In that time, or in what is left of an earlier one: where streams are opened one after the other the time would never come.
    private func refill(inMilliseconds milliseconds: Int, on reactor: Reactor) {
        guard wanted > 0, !isStopped, !isPausing, !isRefilling else { return }
        isRefilling = true
        reactor.setDeadline(of: self, inMilliseconds: milliseconds)
    }

    public override func ready(_ readiness: Readiness, on reactor: Reactor) { fill(on: reactor) }

    public override func deadlinePassed(on reactor: Reactor) {
        isPausing = false
        isRefilling = false
        if exchange(&isExpecting, with: false) { expect(on: reactor) }
        fill(on: reactor)
    }

    private func fill(on reactor: Reactor) {
        guard !isStopped, !isPausing else { return }
        while ready.count + rising.count - waiters.count < wanted { begin(on: reactor) }
    }

    private func begin(on reactor: Reactor) {
        var dial: HubDial?
        let made = HubDial(to: place, through: access, spare: .none, on: reactor) { [weak self] result, reactor in
            guard let self, let dial else { return }
            rising.removeAll { $0 === dial }
            switch consume result {
            case .success(let channel): risen(channel, on: reactor)
            case .failure: failed(on: reactor)
            }
        }
        dial = made
        rising.append(made)
    }

    private func risen(_ channel: consuming Channel, on reactor: Reactor) {
        pauseMilliseconds = 0
        waiters.removeAll { !$0.isWaiting }
        guard waiters.isEmpty else {
            waiters.removeFirst().spared(channel, isFresh: true, on: reactor)
            return refill(inMilliseconds: Self.refillMilliseconds, on: reactor)
        }
        let spare = Spare(channel, of: self)
        ready.append(spare)
        spare.start(on: reactor)
        let isLeftover = ready.count > wanted
        reactor.setDeadline(
            of: spare,
            inMilliseconds: isLeftover ? Self.leftoverMilliseconds : Self.keptMilliseconds + Int.random(in: 0..<Self.spreadMilliseconds))
    }

    /// Waits longer each time, with jitter, so that a thousand devices do not come back at once.
    private func failed(on reactor: Reactor) {
        if !waiters.isEmpty, waiters.count > rising.count { waiters.removeFirst().spareLost(on: reactor) }
        guard wanted > 0, !isStopped, !isPausing else { return }
        pauseMilliseconds = min(max(Self.firstPause, pauseMilliseconds * 2), Self.lastPause)
        isPausing = true
        isRefilling = false
        reactor.setDeadline(of: self, inMilliseconds: pauseMilliseconds / 2 + Int.random(in: 0...pauseMilliseconds / 2))
    }

    /// A spare connection is no more: its time was over, or the hub hung up.
    fileprivate func ended(_ spare: Spare, afterMilliseconds age: UInt64, on reactor: Reactor) {
        guard let index = ready.firstIndex(where: { $0 === spare }) else { return }
        ready.remove(at: index)
        if age < Self.briefMilliseconds { failed(on: reactor) } else { refill(inMilliseconds: Self.refillMilliseconds, on: reactor) }
    }

    public override var isBackground: Bool { true }
    public override func drain(on reactor: Reactor) { stop(on: reactor) }
    public override func abort(on reactor: Reactor) { stop(on: reactor) }
}

/// A connection over which nothing has been said yet. Reads, so that a ticket for the next handshake and the hub's end are noticed.
private final class Spare: Connection {
    private weak var home: SpareConnections?
    private var taker: HubDial?
    private let began = Clock.milliseconds

    init(_ channel: consuming Channel, of home: SpareConnections) {
        self.home = home
        super.init(channel)
    }

    func give(to dial: HubDial, on reactor: Reactor) {
        taker = dial
        reactor.setDeadline(of: self, inMilliseconds: nil)
        handOn(on: reactor)
    }

    func drop(on reactor: Reactor) {
        home = nil
        finish(on: reactor)
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        channel.finish()  // nobody asked
        return bytes.byteCount
    }

    override func handedOn(_ channel: consuming Channel, on reactor: Reactor) { taker.take()?.spared(channel, isFresh: false, on: reactor) }

    override func expired(on reactor: Reactor) { finish(on: reactor) }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        taker.take()?.spareLost(on: reactor)
        home?.ended(self, afterMilliseconds: Clock.milliseconds - began, on: reactor)
    }

    override func drain(on reactor: Reactor) { drop(on: reactor) }
    override var isBackground: Bool { true }
}
