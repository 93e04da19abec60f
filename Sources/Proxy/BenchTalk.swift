import Glibc
import LinuxIO
import Synchronization

/// One open stream as a blocking socket, and the measuring service's few words on it (iotstream-protocol(7)).
final class BenchTalk: Sendable {
    /// What went wrong; for people.
    struct Broken: Error { let reason: String }

    private let socket: OwnedDescriptor
    private let ending = Mutex<String?>(nil)
    private static let patienceSeconds = 30
    static let silence = "no answer within \(patienceSeconds) s"
    static let chunk = 65536

    init(_ socket: consuming OwnedDescriptor) {
        var patience = timeval(tv_sec: Self.patienceSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(socket.raw, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        setsockopt(socket.raw, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
        self.socket = socket
    }

    /// The stream has ended for this reason.
    func note(_ reason: String) { ending.withLock { $0 = $0 ?? reason } }

    private func broken(_ fallback: String) -> Broken {
        if errno == EAGAIN { return Broken(reason: Self.silence) }
        // The reason comes from the reactor's thread, a moment after the socket's end.
        for _ in 0..<50 {
            if let reason = ending.withLock({ $0 }) { return Broken(reason: reason) }
            usleep(2000)
        }
        return Broken(reason: fallback)
    }

    /// Reads and drops at least one byte and at most `limit`; how many, 0 at the end.
    func skip(upTo limit: Int = chunk) throws(Broken) -> Int {
        let count = withUnsafeTemporaryAllocation(byteCount: min(limit, Self.chunk), alignment: 16) { receive(into: $0) }
        guard count >= 0 else { throw broken("the stream broke") }
        return count
    }

    private func receive(into room: UnsafeMutableRawBufferPointer) -> Int {
        while true {
            let count = recv(socket.raw, room.baseAddress, room.count, 0)
            if count >= 0 || errno != EINTR { return count }
        }
    }

    func write(_ bytes: RawSpan) throws(Broken) {
        try bytes.withUnsafeBytes { bytes throws(Broken) in try write(bytes) }
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(Broken) {
        var rest = bytes
        while !rest.isEmpty {
            let count = send(socket.raw, rest.baseAddress, rest.count, CInt(MSG_NOSIGNAL))
            if count >= 0 {
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            } else if errno != EINTR {
                throw broken("the stream broke")
            }
        }
    }

    func endWriting() { shutdown(socket.raw, CInt(SHUT_WR)) }
    /// Breaks the stream off.
    func end() { shutdown(socket.raw, CInt(SHUT_RDWR)) }

    /// A line of at most 64 bytes, without its end.
    func line() throws(Broken) -> String {
        var bytes: [UInt8] = []
        while bytes.count < 64 {
            var byte: UInt8 = 0
            let count = withUnsafeMutableBytes(of: &byte) { receive(into: $0) }
            guard count == 1 else { throw broken(count == 0 ? "the stream ended" : "the stream broke") }
            if byte == 0x0A { return String(decoding: bytes, as: UTF8.self) }
            bytes.append(byte)
        }
        throw Broken(reason: "what answers is not the agent's measuring service")
    }

    /// Gives a command and waits for the service's `ok`.
    func command(_ text: String) throws(Broken) {
        try write("\(text)\n".utf8Span.span.bytes)
        let answer = try line()
        guard answer == "ok" else { throw Broken(reason: "the measuring service answered \(answer)") }
    }

    /// Sends `bytes` and waits until as many have come back; nanoseconds.
    func roundTrip(_ bytes: [UInt8]) throws(Broken) -> UInt64 {
        let began = Clock.nanoseconds
        try write(bytes.span.bytes)
        var missing = bytes.count
        while missing > 0 {
            let count = try skip(upTo: missing)
            guard count > 0 else { throw broken("the stream ended") }
            missing -= count
        }
        return Clock.nanoseconds - began
    }
}
