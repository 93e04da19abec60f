import Bytes
import COpenSSL
import Glibc
import LinuxIO

/// Where the records of a session go that carries bulk: many records at once to the socket, which OpenSSL would be handed one by one.
///
/// While a write gathers, records land in a buffer that is lent for that time; then one send takes all of them. What the socket does not
/// take waits here, and goes out before anything else does.
final class TLSOutlet {
    private let socket: CInt
    private var waiting = ByteQueue()
    private var room: UnsafeMutableRawBufferPointer?
    private var gathered = 0

    init(_ socket: CInt) { self.socket = socket }

    /// A BIO that writes to this outlet, which must outlive it; nil without memory.
    func makeBIO() -> OpaquePointer? {
        guard let method = Self.method, let bio = BIO_new(method.raw) else { return nil }
        BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        BIO_set_init(bio, 1)
        return bio
    }

    /// Bytes that the socket has not taken.
    var count: Int { waiting.count }

    /// Begins to gather in `room`.
    func begin(in room: UnsafeMutableRawBufferPointer) {
        self.room = room
        gathered = 0
    }

    /// Whether another record has room.
    var hasRoom: Bool { (room?.count ?? 0) - gathered >= TLSSession.recordBytes + TLSSession.recordOverhead }

    /// Gathers bytes that are no records, for which there has to be room.
    func gather(_ bytes: [UInt8]) {
        guard let room, room.count - gathered >= bytes.count else { return }
        UnsafeMutableRawBufferPointer(rebasing: room[gathered...]).copyBytes(from: bytes)
        gathered += bytes.count
    }

    /// Sends what has been gathered. Throws what broke the socket.
    func end() throws(TLSError) {
        guard let room else { return }
        self.room = nil
        let bytes = UnsafeRawBufferPointer(rebasing: room[..<gathered])
        let sent = waiting.isEmpty ? try Self.send(bytes, to: socket) : 0
        if sent < bytes.count { waiting.append(UnsafeRawBufferPointer(rebasing: bytes[sent...]).bytes) }
    }

    /// Sends what waits; whether all of it has gone out.
    func flush() throws(TLSError) -> Bool {
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

    /// Bytes that the socket took; 0 when it has no room.
    private static func send(_ bytes: UnsafeRawBufferPointer, to socket: CInt) throws(TLSError) -> Int {
        while !bytes.isEmpty {
            let count = Glibc.send(socket, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
            if count >= 0 { return count }
            if errno == EAGAIN { return 0 }
            if errno != EINTR { throw .system(SystemError("send")) }
        }
        return 0
    }

    /// A record of OpenSSL's: gathered, or sent behind what waits.
    private func write(_ bytes: UnsafeRawBufferPointer) -> CInt {
        if let room, room.count - gathered >= bytes.count {
            UnsafeMutableRawBufferPointer(rebasing: room[gathered...]).copyMemory(from: bytes)
            gathered += bytes.count
            return CInt(truncatingIfNeeded: bytes.count)
        }
        do throws(TLSError) {
            guard try flush() else { return 0 }
            return CInt(truncatingIfNeeded: try Self.send(bytes, to: socket))
        } catch {
            if case .system(let broken) = error { errno = broken.number }
            return -1
        }
    }

    // The BIO

    /// Made once; OpenSSL only reads it.
    private struct Method: @unchecked Sendable { let raw: OpaquePointer }

    private static let method: Method? = {
        guard let raw = BIO_meth_new(BIO_get_new_index() | CInt(BIO_TYPE_SOURCE_SINK), "gathering socket") else { return nil }
        BIO_meth_set_write(raw) { bio, bytes, count in
            guard let bio, let bytes, count > 0, let data = BIO_get_data(bio) else { return -1 }
            BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY)
            let outlet = Unmanaged<TLSOutlet>.fromOpaque(data).takeUnretainedValue()
            let result = outlet.write(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
            if result == 0 { BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY) }
            return result > 0 ? result : -1
        }
        BIO_meth_set_ctrl(raw) { _, command, _, _ in command == CInt(BIO_CTRL_FLUSH) ? 1 : 0 }
        return Method(raw: raw)
    }()
}
