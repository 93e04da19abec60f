import Connections
import Glibc
import LinuxIO

/// One leg of a blind stream at the hub: a socket that has left TLS, whose bytes go to the other leg as they are (iotstream-protocol(7)).
/// Nothing is read before the other leg is there. FIN is passed on as FIN, behind everything; whatever breaks one leg resets both.
package final class BlindLeg: Source, HubLeg {
    private static let beatMilliseconds = 5000
    private static let brokenBit: UInt32 = 0x8  // EPOLLERR

    private let descriptor: OwnedDescriptor
    private let companion: (any AnyObject & Sendable)?
    package let peer: SocketAddress?
    private weak var owner: (any LegOwner)?
    package var throttle: Throttle?
    private var other: BlindLeg?
    private var flow: BlindFlow?  // from this leg to the other; nil while it is being worked on, before the join, and at the end
    private var bytesAtEnd: UInt64 = 0
    private var hasEnded = false
    private var isHungUp = false
    /// Arrivals are not told: the flow is blocked, and each of them would wake the reactor for nothing.
    private var isDeaf = false
    private static let hearing: Readiness = [.readable, .writable, .hangup, .edgeTriggered]
    private static let deaf: Readiness = [.writable, .hangup, .edgeTriggered]

    /// Takes a socket from which nothing has been read since it left TLS.
    package init(_ socket: consuming BareSocket, owner: any LegOwner) {
        companion = socket.companion
        peer = socket.peer
        self.owner = owner
        descriptor = socket.take()
        super.init()
    }

    /// Begins to watch the socket; tells the owner when that fails.
    package func start(on reactor: Reactor) {
        descriptor.keepAlive()
        do throws(SystemError) {
            try reactor.add(self, descriptor: descriptor.raw, Self.hearing)
            reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
        } catch {
            hasEnded = true
            owner?.ended(self, .broken(error.reason), on: reactor)
        }
    }

    /// Lets bytes flow between two legs.
    package static func join(_ one: BlindLeg, _ two: BlindLeg, on reactor: Reactor) {
        one.other = two
        two.other = one
        one.flow = BlindFlow(from: one.descriptor.raw, to: two.descriptor.raw, isHungUp: one.isHungUp)
        two.flow = BlindFlow(from: two.descriptor.raw, to: one.descriptor.raw, isHungUp: two.isHungUp)
        one.run(on: reactor)
        two.run(on: reactor)
    }

    package var receivedBytes: UInt64 {
        switch flow {
        case .some(let flow): flow.bytes
        case .none: bytesAtEnd
        }
    }

    // Events

    package override func ready(_ readiness: Readiness, on reactor: Reactor) {
        guard !hasEnded else { return }
        if readiness.rawValue & Self.brokenBit != 0, let error = descriptor.pendingError {
            return broke(error, on: reactor)
        }
        if !readiness.isDisjoint(with: .hangup) { isHungUp = true }
        guard let other else { return }
        if !readiness.isDisjoint(with: [.readable, .hangup]) { flow?.sourceBecameReady(isHungUp: isHungUp) }
        if !isDeaf, !readiness.isDisjoint(with: .readable), flow?.isBlocked == true {
            isDeaf = true
            reactor.watch(self, descriptor: descriptor.raw, Self.deaf)
        }
        run(on: reactor)
        if !readiness.isDisjoint(with: [.writable, .hangup]), other.flow?.targetBecameReady() == true {
            other.run(on: reactor)
            other.listen(on: reactor)
        }
    }

    /// Wants to be told of arrivals again, unless the flow is blocked again. What came meanwhile is told at once.
    private func listen(on reactor: Reactor) {
        guard isDeaf, !hasEnded, flow?.isBlocked != true else { return }
        isDeaf = false
        reactor.watch(self, descriptor: descriptor.raw, Self.hearing)
    }

    private func run(on reactor: Reactor) {
        guard !hasEnded, var flow = self.flow.take() else { return }
        do throws(SystemError) {
            let outcome = try flow.run(on: reactor, for: self, throttle)
            self.flow = consume flow
            switch outcome {
            case .waiting: break
            case .unfinished: reactor.revisit(self)
            case .done: if other?.flow?.isDone == true { end(.closed(1000), on: reactor) }
            }
        } catch {
            bytesAtEnd = flow.bytes
            broke(error, on: reactor)
        }
    }

    package func throttleOpened(on reactor: Reactor) { run(on: reactor) }

    package override func deadlinePassed(on reactor: Reactor) {
        if descriptor.isPathDead() { return broke(SystemError("send", ETIMEDOUT), on: reactor) }
        reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
    }

    // The end

    /// Resets the leg, unless both directions have come to their end.
    package func close(code: UInt16, reason: String = "", on reactor: Reactor) {
        guard !hasEnded else { return }
        if code != 1000 { descriptor.resetOnClose() }
        end(.closed(code), on: reactor)
    }

    private func broke(_ error: SystemError, on reactor: Reactor) {
        for leg in [self, other] { if let leg { leg.descriptor.resetOnClose() } }
        end(.broken(error.reason), on: reactor)
    }

    /// Ends this leg and with it the other, and tells their owner in this order.
    private func end(_ end: LegEnd, on reactor: Reactor) {
        let legs = [self, other].compactMap(\.self).filter { !$0.hasEnded }
        for leg in legs { leg.release(on: reactor) }
        for leg in legs { leg.owner?.ended(leg, end, on: reactor) }
    }

    private func release(on reactor: Reactor) {
        hasEnded = true
        bytesAtEnd = max(bytesAtEnd, receivedBytes)
        flow = nil
        other = nil
        reactor.remove(self, descriptor: descriptor.raw)
    }

    package override func abort(on reactor: Reactor) {
        guard !hasEnded else { return }
        broke(SystemError("close", ECANCELED), on: reactor)
    }
}
