import Bytes
import Glibc

/// Where a session that carries bulk reads from: the socket, by many records at once, which OpenSSL then takes one by one.
///
/// OpenSSL's own read-ahead moves all that it holds to the front of its buffer for each record. Here what was read lies in a buffer that is
/// lent for one turn of the connection; what nobody has taken at the end of the turn is kept.
struct TLSInlet: ~Copyable {
    private var kept = ByteQueue()
    private var room: UnsafeMutableRawBufferPointer?
    private var head = 0, tail = 0
    private var hasRead = false, hasDrained = false, believesShortReads = false
    /// Whether there was nothing to take because this turn has read once, and not because the socket had no more.
    private(set) var isTurnOver = false
    /// Whether the peer has ended its direction.
    private(set) var hasEnded = false

    /// What there is for OpenSSL.
    enum Outcome {
        /// So many bytes.
        case bytes(Int)
        case nothingYet
        case end
        /// See errno.
        case broken
    }

    /// Begins a turn, in which the socket is read once.
    /// - Parameters:
    ///   - room: where its bytes lie until `endTurn`.
    ///   - believesShortReads: whether a read that does not fill the room says that the socket is empty. Not behind a hang-up, which comes
    ///     with no more than one event.
    mutating func beginTurn(through room: UnsafeMutableRawBufferPointer, believesShortReads: Bool) {
        self.room = room
        self.believesShortReads = believesShortReads
        (head, tail) = (0, 0)
        (hasRead, hasDrained, isTurnOver) = (false, false, false)
    }

    mutating func endTurn() {
        if let room, head < tail { kept.append(UnsafeRawBufferPointer(rebasing: room[head..<tail]).bytes) }
        room = nil
    }

    /// Fills `bytes`, or a part of it.
    mutating func read(into bytes: UnsafeMutableRawBufferPointer, from socket: CInt) -> Outcome {
        if !kept.isEmpty {
            let count = min(kept.count, bytes.count)
            kept.withBytes { waiting in
                waiting.withUnsafeBytes { bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            }
            kept.consume(count)
            kept.releaseIfEmpty()
            return .bytes(count)
        }
        guard let room else { return receive(into: bytes, from: socket) }
        if head == tail {
            if hasRead {
                isTurnOver = !hasDrained
                return .nothingYet
            }
            let outcome = receive(into: room, from: socket)
            guard case .bytes(let count) = outcome else { return outcome }
            (head, tail) = (0, count)
            hasRead = true
            hasDrained = believesShortReads && count < room.count
        }
        let count = min(tail - head, bytes.count)
        bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: room[head..<head + count]))
        head += count
        return .bytes(count)
    }

    private mutating func receive(into bytes: UnsafeMutableRawBufferPointer, from socket: CInt) -> Outcome {
        while true {
            let count = recv(socket, bytes.baseAddress, bytes.count, 0)
            if count > 0 { return .bytes(count) }
            if count == 0 {
                hasEnded = true
                return .end
            }
            if errno == EAGAIN { return .nothingYet }
            if errno != EINTR { return .broken }
        }
    }
}
