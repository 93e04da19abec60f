import CLinux
import Console
import Glibc
import LinuxIO
import Synchronization
import Wire

/// The audit log of a running service: events go in from any thread and never wait; one thread writes them in batches.
///
/// A batch is written some milliseconds after its first event, when the connection or stream that it tells of has had its turn, and made
/// durable within a second: a crash of the process loses what has not been written yet (milliseconds), a power cut a second. When the disk
/// is full the service goes on: the log says so once, keeps what its queue holds, and tells with its next line how many events it has not
/// kept.
package final class AuditLog: Sendable {
    private struct Queue {
        var events: [AuditEvent] = []
        var gate = RefusalGate()
        var lost = 0
        var options: AuditOptions
        var isClosed = false
    }

    /// Milliseconds for which the events of a batch gather.
    private static let gatheringMilliseconds: CInt = 10
    /// Milliseconds after which what was written is made durable, and a disk that was full is tried again.
    private static let syncMilliseconds = 1000
    /// Bytes that wait at most for a disk that takes nothing.
    private static let mostWaiting = 1 << 20
    /// Events of one batch at the most, so that files are not much larger than they should be.
    private static let largestBatch = 1024

    private let path: String
    private let service: String
    private let queue: Mutex<Queue>
    private let bell: OwnedDescriptor
    private let thread = Mutex<LinuxIO.Thread?>(nil)

    /// - Parameters:
    ///   - path: of the log's directory, which is made with the first line.
    ///   - service: who writes: `hub`, `dps`.
    package init(at path: String, by service: String, _ options: AuditOptions = AuditOptions()) throws(SystemError) {
        self.path = path
        self.service = service
        queue = Mutex(Queue(options: options))
        bell = OwnedDescriptor(adopting: try checked(clx_eventfd(), "eventfd"))
        let started = try Thread.start { [self] in run() }
        thread.withLock { $0 = started }
    }

    /// Puts an event into the queue; from any thread, without waiting.
    package func record(_ event: AuditEvent) {
        let isFirst = queue.withLock { queue in
            guard !queue.isClosed else { return false }
            let hasCounted = queue.gate.hasCounted
            guard queue.gate.passes(event) else { return !hasCounted }
            guard queue.events.count < queue.options.queued else {
                queue.lost += 1
                return false
            }
            queue.events.append(event)
            return queue.events.count == 1
        }
        if isFirst { clx_eventfd_ring(bell.raw) }
    }

    /// Keeps to these from the next batch on.
    package func take(_ options: AuditOptions) { queue.withLock { $0.options = options } }

    /// Writes what waits, makes it durable and ends; what comes later is not kept.
    package func close() {
        queue.withLock { $0.isClosed = true }
        clx_eventfd_ring(bell.raw)
        thread.withLock { $0.take() }?.join()
    }

    /// Writes one line at once and makes it durable; for a command.
    package static func append(_ event: AuditEvent, at path: String, by service: String) throws(SystemError) {
        var event = event
        event.service = service
        var appender = AuditAppender(at: path)
        let progress = appender.append(event.line, now: event.time)
        if let failure = progress.failure { throw failure }
        appender.sync()
    }

    // The writer's thread

    /// What the writer knows between two batches.
    private struct Writing {
        /// Events from the queue that are no lines yet.
        var pending: ArraySlice<AuditEvent> = []
        /// Whole lines that are not on the disk yet, and how many.
        var lines: [UInt8] = []
        var lost = 0
        /// When it may be told again that some were lost; milliseconds.
        var tellAt: Int64 = 0
        var isBroken = false
        var syncAt: Int64?
    }

    private func run() {
        var appender = AuditAppender(at: path, queue.withLock { $0.options })
        var state = Writing()
        appender.prune()
        while true {
            let now = Timestamp.now
            let (counts, lost, wait, isClosed, isLast) = queue.withLock { queue in
                appender.options = queue.options
                if state.pending.isEmpty { state.pending = exchange(&queue.events, with: [])[...] }
                return (
                    queue.gate.due(now: now, isEnd: queue.isClosed), exchange(&queue.lost, with: 0), queue.gate.wait(now: now),
                    queue.isClosed, queue.isClosed && queue.events.isEmpty
                )
            }
            state.lost += lost
            if state.lines.count < Self.mostWaiting {
                for event in state.pending.prefix(Self.largestBatch) { append(event, to: &state.lines) }
                state.pending = state.pending.dropFirst(Self.largestBatch)
            }
            for event in counts { append(event, to: &state.lines) }
            write(&state, with: &appender, now: now, isEnd: isClosed)
            if let due = state.syncAt, now.milliseconds >= due || isClosed {
                appender.sync()
                state.syncAt = nil
            }
            if isClosed, state.isBroken || (isLast && state.pending.isEmpty && state.lost == 0) {
                let left = state.lost + state.lines.count { $0 == 10 } + state.pending.count + queue.withLock { $0.events.count }
                if left > 0 { Log.warning("audit-lost", ["events": String(left)]) }
                return
            }
            if state.isBroken || (state.pending.isEmpty && !isClosed) { rest(state, gate: wait, now: now) }
        }
    }

    private func append(_ event: AuditEvent, to lines: inout [UInt8]) {
        var event = event
        event.service = service
        lines += event.line
    }

    private func write(_ state: inout Writing, with appender: inout AuditAppender, now: Timestamp, isEnd: Bool) {
        if state.lost > 0, !state.isBroken, isEnd || now.milliseconds >= state.tellAt || state.lines.isEmpty {
            state.tellAt = now.milliseconds + Int64(Self.syncMilliseconds)
            Log.warning("audit-lost", ["events": String(state.lost)])
            var event = AuditEvent(.service, "audit-lost", .failed("not-written", "events that the log has not kept"), at: now)
            event.count = exchange(&state.lost, with: 0)
            append(event, to: &state.lines)
        }
        guard !state.lines.isEmpty else { return }
        let progress = appender.append(state.lines, now: now)
        state.lines.removeFirst(progress.written)
        if progress.written > 0, state.syncAt == nil { state.syncAt = now.milliseconds + Int64(Self.syncMilliseconds) }
        if progress.hasRotated { appender.prune(now: now) }
        if let failure = progress.failure {
            if !state.isBroken { Log.error("audit-unwritable", ["path": path, "reason": failure.description]) }
            state.isBroken = true
        } else if state.isBroken {
            state.isBroken = false
            Log.notice("audit-writable", ["path": path])
        }
    }

    /// Waits for events, or until something else is due.
    private func rest(_ state: Writing, gate: Int?, now: Timestamp) {
        var milliseconds = gate ?? -1
        func atMost(_ wait: Int) { milliseconds = milliseconds < 0 ? wait : min(milliseconds, wait) }
        if let due = state.syncAt { atMost(Int(clamping: min(max(0, due - now.milliseconds), Int64(Self.syncMilliseconds)))) }
        if state.isBroken || state.lost > 0 { atMost(Self.syncMilliseconds) }
        let end = Clock.milliseconds &+ UInt64(max(0, milliseconds))
        while true {
            var descriptor = pollfd(fd: bell.raw, events: Int16(POLLIN), revents: 0)
            if poll(&descriptor, 1, CInt(clamping: milliseconds)) > 0, !queue.withLock({ $0.isClosed }) {
                poll(nil, 0, Self.gatheringMilliseconds)
            }
            clx_eventfd_clear(bell.raw)
            // A disk that takes nothing is not tried again for each event.
            let left = end - min(end, Clock.milliseconds)
            guard state.isBroken, left > 0, !queue.withLock({ $0.isClosed }) else { return }
            milliseconds = Int(left)
        }
    }
}
