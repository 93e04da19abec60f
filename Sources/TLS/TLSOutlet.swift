import Bytes
import Glibc
import LinuxIO

/// Where the records of a session go that carries bulk: many records at once to the socket, which OpenSSL would hand over one by one.
///
/// While a write gathers, records land in a buffer that is lent for that time; then one send takes all of them. What the socket does not
/// take waits here, and goes out before anything else does.
struct TLSOutlet: ~Copyable {
    private let socket: CInt
    private var waiting = ByteQueue()
    private var room: UnsafeMutableRawBufferPointer?
    private var gathered = 0

    init(_ socket: CInt) { self.socket = socket }

    /// Bytes that the socket has not taken.
    var count: Int { waiting.count }

    /// Begins to gather in `room`.
    mutating func begin(in room: UnsafeMutableRawBufferPointer) {
        self.room = room
        gathered = 0
    }

    /// How many more records have room.
    var recordsLeft: Int { ((room?.count ?? 0) - gathered) / (TLSSession.recordBytes + TLSSession.recordOverhead) }

    /// Gathers bytes that are no records, for which there has to be room.
    mutating func gather(_ bytes: [UInt8]) {
        guard let room, room.count - gathered >= bytes.count else { return }
        UnsafeMutableRawBufferPointer(rebasing: room[gathered...]).copyBytes(from: bytes)
        gathered += bytes.count
    }

    /// Sends what has been gathered. Throws what broke the socket.
    mutating func end() throws(TLSError) {
        guard let room else { return }
        self.room = nil
        let bytes = UnsafeRawBufferPointer(rebasing: room[..<gathered])
        let sent = waiting.isEmpty ? try Self.send(bytes, to: socket) : 0
        if sent < bytes.count { waiting.append(UnsafeRawBufferPointer(rebasing: bytes[sent...]).bytes) }
    }

    /// Sends what waits; whether all of it has gone out.
    mutating func flush() throws(TLSError) -> Bool {
        while !waiting.isEmpty {
            let sent = try waiting.withBytes { bytes throws(TLSError) in
                try bytes.withUnsafeBytes { raw throws(TLSError) in try Self.send(raw, to: socket) }
            }
            guard sent > 0 else { return false }
            waiting.consume(sent)
        }
        waiting.releaseIfEmpty()
        return true
    }

    /// Takes a record: gathered, or sent behind what waits. Bytes taken; 0 when the socket has no room, -1 with errno when it broke.
    mutating func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        if let room, room.count - gathered >= bytes.count {
            UnsafeMutableRawBufferPointer(rebasing: room[gathered...]).copyMemory(from: bytes)
            gathered += bytes.count
            return bytes.count
        }
        do throws(TLSError) {
            return try flush() ? try Self.send(bytes, to: socket) : 0
        } catch {
            if case .system(let broken) = error { errno = broken.number }
            return -1
        }
    }

    /// Bytes that the socket took; 0 when it has no room.
    static func send(_ bytes: UnsafeRawBufferPointer, to socket: CInt) throws(TLSError) -> Int {
        while !bytes.isEmpty {
            let count = Glibc.send(socket, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
            if count >= 0 { return count }
            if errno == EAGAIN { return 0 }
            if errno != EINTR { throw .system(SystemError("send")) }
        }
        return 0
    }
}
