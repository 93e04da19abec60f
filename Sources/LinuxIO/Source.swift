/// What epoll says of a descriptor.
///
/// Public, as `Source`, `Reactor` and `Token` are, only because a class that other rooms subclass has to be open.
public struct Readiness: OptionSet, Sendable {
    /// The bits as epoll has them.
    public let rawValue: UInt32
    /// Takes epoll's bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let readable = Readiness(rawValue: 0x1)
    package static let writable = Readiness(rawValue: 0x4)
    /// EPOLLERR, EPOLLHUP or EPOLLRDHUP: the peer has finished or the connection broke.
    package static let hangup = Readiness(rawValue: 0x2018)
    package static let edgeTriggered = Readiness(rawValue: 1 << 31)
}

/// Something a reactor watches: a descriptor, a deadline, or both. Not Sendable: it lives and dies on its reactor's thread.
open class Source {
    /// The name under which its reactor knows it.
    public internal(set) final var token = Token(slot: 0, generation: 0)
    final var isQueued = false

    /// A source that no reactor watches yet.
    public init() {}

    /// Whether a drain waits for this source. Timers, signals and watches serve others and end with them.
    open var isBackground: Bool { false }

    /// The descriptor became ready; an empty set when the source asked to be revisited.
    open func ready(_ readiness: Readiness, on reactor: Reactor) {}
    /// The one deadline has come; none is set now.
    open func deadlinePassed(on reactor: Reactor) {}
    /// The process wants to end: finish soon, start nothing new. Does nothing by default.
    open func drain(on reactor: Reactor) {}
    /// End now.
    open func abort(on reactor: Reactor) { reactor.remove(self) }
}

/// Work that is done once, when there is nothing else to do: ahead of somebody who is waited for, or behind what was urgent.
package final class Leisure: Source {
    private let work: (Reactor) -> Void

    /// Begins at once, which is when nothing else is to be done.
    @discardableResult
    package init(on reactor: Reactor, _ work: @escaping (Reactor) -> Void) {
        self.work = work
        super.init()
        reactor.add(self)
        reactor.visitAtLeisure(self)
    }

    public override func ready(_ readiness: Readiness, on reactor: Reactor) {
        reactor.remove(self)
        work(reactor)
    }
    public override var isBackground: Bool { true }
}

/// A deadline that is nobody's connection. It fires once for each time it is set.
package final class Timer: Source {
    private let fire: (Timer, Reactor) -> Void

    package init(on reactor: Reactor, _ fire: @escaping (Timer, Reactor) -> Void) {
        self.fire = fire
        super.init()
        reactor.add(self)
    }

    public override func deadlinePassed(on reactor: Reactor) { fire(self, reactor) }
    public override var isBackground: Bool { true }

    /// Sets or moves the moment; nil stops it.
    package func set(inMilliseconds milliseconds: Int?, on reactor: Reactor) {
        reactor.setDeadline(of: self, inMilliseconds: milliseconds)
    }
}
