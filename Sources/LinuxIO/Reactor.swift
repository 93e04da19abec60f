import Bytes
import CLinux
import Glibc

/// One epoll loop on one thread. Not Sendable, and nothing in it is locked.
public final class Reactor {
    /// The grain of deadlines.
    package static let tickMilliseconds: UInt64 = 50

    package let mailbox: Mailbox
    package private(set) var isDraining = false
    /// Where connections read into before they own a buffer.
    package let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 65536, alignment: 64)

    /// Where the records of one write are gathered: seventeen full ones of TLS, for a quarter of a megabyte and its framing.
    package var gathering: UnsafeMutableRawBufferPointer { gatheringRoom.bytes }
    private lazy var gatheringRoom = Room(byteCount: 17 * (16384 + 512))

    /// Where connections read into that pass on at once what they read, many bytes of it.
    package var bulk: UnsafeMutableRawBufferPointer { bulkRoom.bytes }
    private lazy var bulkRoom = Room(byteCount: 16 * 16384)

    /// Where encrypted bytes lie between the socket and the session that reads many of its records at once: so few that what one read brings,
    /// behind the part of a record that was left of the one before, goes on in one send.
    package var incoming: UnsafeMutableRawBufferPointer { incomingRoom.bytes }
    private lazy var incomingRoom = Room(byteCount: 15 * 16384)

    /// Memory for output that goes out as soon as it is written.
    package var warm = ByteQueue()

    /// For those who move bytes from socket to socket.
    package let pipes = PipePool()

    /// What a role keeps for each reactor.
    package var resident: AnyObject?

    private let epoll: OwnedDescriptor
    private let epoch = clx_monotonic_ms()
    private var table = SourceTable()
    private var unfinished: [Token] = [], leisurely: [Token] = []
    private var leisureTick: UInt64 = 0
    private var tick: UInt64 = 0, stopTick = UInt64.max
    private var isStopped = false
    private static let bellTag = UInt64.max

    private init(_ mailbox: Mailbox) throws(SystemError) {
        self.mailbox = mailbox
        epoll = OwnedDescriptor(adopting: epoll_create1(CInt(1 << 19)))  // EPOLL_CLOEXEC
        guard epoll.raw >= 0 else { throw SystemError("epoll_create1") }
        try checked(clx_epoll_add(epoll.raw, mailbox.bell.raw, Readiness.readable.rawValue, Self.bellTag), "epoll_ctl")
    }

    deinit { scratch.deallocate() }

    /// Starts a thread whose only job is this loop. It ends when a drain has finished or `stop` was called.
    package static func start(
        _ setUp: @escaping @Sendable (Reactor) -> Void
    ) throws(SystemError) -> (mailbox: Mailbox, thread: Thread) {
        let mailbox = try Mailbox()
        let thread = try Thread.start {
            // Out of descriptors before the first connection: there is nothing to go on with.
            guard let reactor = try? Reactor(mailbox) else { return }
            setUp(reactor)
            reactor.run()
        }
        return (mailbox, thread)
    }

    /// Runs the loop on the calling thread until it is drained or stopped.
    package static func runHere(_ setUp: (Reactor) -> Void) throws(SystemError) {
        let reactor = try Reactor(try Mailbox())
        setUp(reactor)
        reactor.run()
    }

    /// Sources alive.
    package var count: Int { table.count }
    package var sources: [Source] { table.all }

    /// Milliseconds since the reactor began, read once for each round of the loop.
    package private(set) var now: UInt64 = 0

    /// The same on the monotonic clock itself, which all reactors have in common.
    package var moment: UInt64 { epoch &+ now }

    /// Watches nothing but the source's deadline.
    package func add(_ source: Source) {
        source.token = table.insert(source)
        source.isQueued = false  // whoever touched it before it was added asked for a visit that never comes
    }

    /// Watches a descriptor, which stays the source's own; it must be removed before it is closed.
    package func add(_ source: Source, descriptor: CInt, _ interest: Readiness) throws(SystemError) {
        add(source)
        let result = clx_epoll_add(epoll.raw, descriptor, interest.rawValue, source.token.packed)
        guard result >= 0 else {
            table.remove(source.token)
            throw SystemError("epoll_ctl", -result)
        }
    }

    package func watch(_ source: Source, descriptor: CInt, _ interest: Readiness) {
        _ = clx_epoll_mod(epoll.raw, descriptor, interest.rawValue, source.token.packed)
    }

    package func remove(_ source: Source, descriptor: CInt) {
        _ = clx_epoll_del(epoll.raw, descriptor)
        table.remove(source.token)
    }

    package func remove(_ source: Source) { table.remove(source.token) }

    package func source(_ token: Token) -> Source? { table[token] }

    /// Sets or moves the one deadline of a source; nil means none. Fires up to one tick late, never early.
    package func setDeadline(of source: Source, inMilliseconds milliseconds: Int?) {
        guard let milliseconds else { return table.setDeadline(source.token, 0) }
        let ticks = (UInt64(max(0, milliseconds)) + Self.tickMilliseconds - 1) / Self.tickMilliseconds
        table.setDeadline(source.token, elapsedTicks() + ticks + 1)
    }

    /// Comes back to this source before sleeping: it stopped for fairness, or has output nobody has flushed.
    package func revisit(_ source: Source) {
        guard !source.isQueued else { return }
        source.isQueued = true
        unfinished.append(source.token)
    }

    /// Comes to this source once there is nothing else to do, and after a tick or two all the same: for work that is to be done by the time
    /// something else has come, and for what can wait.
    package func visitAtLeisure(_ source: Source) {
        if leisurely.isEmpty { leisureTick = elapsedTicks() + 2 }
        leisurely.append(source.token)
    }

    /// Asks every source to finish; the loop ends when the last has, or when the time is over.
    package func drain(withinMilliseconds milliseconds: Int) {
        isDraining = true
        stopTick = elapsedTicks() + UInt64(max(0, milliseconds)) / Self.tickMilliseconds + 1
        for source in table.all { source.drain(on: self) }
    }

    /// Ends the loop after this round.
    package func stop() { isStopped = true }

    private func elapsedTicks() -> UInt64 { (clx_monotonic_ms() - epoch) / Self.tickMilliseconds }

    private func run() {
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 256) { events in
            var due: [Token] = []
            while !isStopped, !(isDraining && isFinished) {
                let count = clx_epoll_wait(epoll.raw, events.baseAddress, 256, unfinished.isEmpty && leisurely.isEmpty ? patience() : 0)
                now = clx_monotonic_ms() - epoch
                for index in 0..<Int(max(0, count)) {
                    let tag = events[index].data.u64
                    if tag == Self.bellTag {
                        deliver()
                    } else {
                        table[Token(packed: tag)]?.ready(Readiness(rawValue: events[index].events), on: self)
                    }
                }
                if !unfinished.isEmpty {
                    for token in exchange(&unfinished, with: []) {
                        guard let source = table[token] else { continue }
                        source.isQueued = false
                        source.ready([], on: self)
                    }
                }
                let current = elapsedTicks()
                if !leisurely.isEmpty, (count <= 0 && unfinished.isEmpty) || current >= leisureTick {
                    table[leisurely.removeFirst()]?.ready([], on: self)
                }
                if current != tick {
                    tick = current
                    table.sweep(to: current, into: &due)
                    for token in due { table[token]?.deadlinePassed(on: self) }
                    due.removeAll(keepingCapacity: true)
                    if isDraining, current >= stopTick { for source in table.all { source.abort(on: self) } }
                }
            }
        }
        deliver(isLast: true)
        for source in table.all { source.abort(on: self) }
    }

    private var isFinished: Bool { table.foregroundCount == 0 }

    /// Milliseconds to sleep at most: to the next deadline, and for ever where none is set.
    private func patience() -> CInt {
        var target = table.nextTick()
        if isDraining { target = min(target ?? stopTick, stopTick) }
        guard let target else { return -1 }
        let moment = target * Self.tickMilliseconds, elapsed = clx_monotonic_ms() - epoch
        return moment > elapsed ? CInt(min(moment - elapsed, 60_000)) : 0
    }

    private func deliver(isLast: Bool = false) {
        for letter in mailbox.collect(isLast: isLast) { letter(self) }
    }
}

/// Memory that is there from its first use on.
private final class Room {
    let bytes: UnsafeMutableRawBufferPointer

    init(byteCount: Int) { bytes = .allocate(byteCount: byteCount, alignment: 64) }
    deinit { bytes.deallocate() }
}
