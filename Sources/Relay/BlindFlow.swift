import Bytes
import CLinux
import Glibc
import LinuxIO

/// One direction of a blind stream: bytes from one socket to another, unread.
///
/// Little goes through the reactor's scratch buffer. A read that fills it means bulk, which goes through a pipe of the reactor's pool
/// without being copied, until only little comes again. What the target does not take waits, in the pipe or in a buffer of at most one
/// read's size, and nothing is read meanwhile: the source is slowed down by its window.
struct BlindFlow: ~Copyable {
    /// What became of a turn.
    enum Outcome {
        /// Nothing more to do before the sockets say so.
        case waiting
        /// Its turn was over before its work.
        case unfinished
        /// Everything up to the source's end has been passed on, and the end too.
        case done
    }

    /// Reads in one turn; then the other streams have theirs.
    private static let roundsPerTurn = 4
    /// A wake-up that brings less than this through a pipe is not bulk.
    private static let littleBytes = 16 << 10

    private let source, target: CInt
    private var isReadable = true, isWritable = true
    /// The source may have ended or broken: a short read does not mean that it is empty.
    private var isHungUp: Bool
    private var held = ByteQueue()
    private var pipe: Pipe?
    private var bytesInPipe = 0
    private var isBulk = false
    private var hasSourceEnded = false
    private(set) var isDone = false
    /// Bytes that came from the source.
    private(set) var bytes: UInt64 = 0

    init(from source: CInt, to target: CInt, isHungUp: Bool) {
        self.source = source
        self.target = target
        self.isHungUp = isHungUp
    }

    mutating func sourceBecameReady(isHungUp: Bool) {
        isReadable = true
        if isHungUp { self.isHungUp = true }
    }

    /// Something waits that the target does not take: nothing is read until it does.
    var isBlocked: Bool { !isWritable }

    /// Whether the target was waited for.
    mutating func targetBecameReady() -> Bool { !exchange(&isWritable, with: true) }

    /// Moves what can be moved in one turn. Throws what broke either socket.
    /// - Parameters:
    ///   - leg: whom the throttle wakes.
    ///   - throttle: nil when nothing limits.
    mutating func run(on reactor: Reactor, for leg: any Throttled, _ throttle: Throttle?) throws(SystemError) -> Outcome {
        var rounds = Self.roundsPerTurn
        while true {
            guard try empty(on: reactor) else { return .waiting }
            if hasSourceEnded {
                if !exchange(&isDone, with: true) { shutdown(target, CInt(SHUT_WR)) }
                return .done
            }
            guard isReadable else { return .waiting }
            guard rounds > 0 else { return .unfinished }
            rounds -= 1
            let limit = throttle?.room(for: leg, on: reactor) ?? .max, before = bytes
            guard limit > 0 else {
                if let pipe = pipe.take() { reactor.pipes.give(pipe) }
                return .waiting
            }
            if isBulk, let pipe = pipe ?? reactor.pipes.take(now: reactor.now) {
                self.pipe = pipe
                try fill(pipe, limit: limit, on: reactor)
            } else {
                try copy(limit: limit, on: reactor)
            }
            throttle?.spend(Int(bytes &- before))
        }
    }

    /// Passes on what waits; false while the target takes no more.
    private mutating func empty(on reactor: Reactor) throws(SystemError) -> Bool {
        while isWritable, !held.isEmpty {
            let count = held.withBytes { waiting in waiting.withUnsafeBytes { send(target, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) } }
            if count >= 0 { held.consume(count) } else { try blockedWriting(errno) }
        }
        while isWritable, bytesInPipe > 0, let pipe {
            let count = clx_splice(pipe.reading.raw, target, bytesInPipe)
            if count >= 0 { bytesInPipe -= count } else { try blockedWriting(CInt(truncatingIfNeeded: -count)) }
        }
        held.releaseIfEmpty()
        return held.isEmpty && bytesInPipe == 0
    }

    private mutating func blockedWriting(_ number: CInt) throws(SystemError) {
        if number == EAGAIN { isWritable = false } else if number != EINTR { throw SystemError("send", number) }
    }

    /// Fills the pipe, which is empty: otherwise EAGAIN would not say whether it is the pipe that is full.
    private mutating func fill(_ pipe: Pipe, limit: Int, on reactor: Reactor) throws(SystemError) {
        let count = clx_splice(source, pipe.writing.raw, min(limit, pipe.capacity))
        if count > 0 {
            bytes &+= UInt64(count)
            bytesInPipe = count
            if count < Self.littleBytes { isBulk = false }
        } else if count == 0 {
            hasSourceEnded = true
        } else if -count == EAGAIN {
            isReadable = false
        } else if -count != EINTR {
            throw SystemError("splice", CInt(truncatingIfNeeded: -count))
        }
        if bytesInPipe == 0, let pipe = self.pipe.take() { reactor.pipes.give(pipe) }
    }

    private mutating func copy(limit: Int, on reactor: Reactor) throws(SystemError) {
        if let pipe = pipe.take() { reactor.pipes.give(pipe) }  // it is empty, and no longer wanted
        let room = reactor.scratch, wanted = min(limit, room.count)
        let count = recv(source, room.baseAddress, wanted, 0)
        guard count > 0 else {
            if count == 0 {
                hasSourceEnded = true
            } else if errno == EAGAIN {
                isReadable = false
            } else if errno != EINTR {
                throw SystemError("recv")
            }
            return
        }
        bytes &+= UInt64(count)
        if count == room.count { isBulk = true } else if count < wanted, !isHungUp { isReadable = false }
        let sent = send(target, room.baseAddress, count, CInt(MSG_NOSIGNAL))
        if sent < 0 { try blockedWriting(errno) }
        if sent < count { held.append(UnsafeRawBufferPointer(rebasing: room[max(0, sent)..<count]).bytes) }
    }
}
