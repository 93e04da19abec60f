import Bytes
import Glibc
import LinuxIO
import Testing
import Wire

/// A connected pair of TCP sockets on loopback: ours, which blocks for ten seconds at most, and one for a reactor.
func connectedPair() throws -> (near: Peer, far: CInt) {
    let listener = OwnedDescriptor(adopting: socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0))
    let any = try #require(SocketAddress(address: "127.0.0.1", port: 0))
    try #require(any.withSockaddr { bind(listener.raw, $0, $1) } == 0)
    try #require(listen(listener.raw, 1) == 0)
    let address = try #require(SocketAddress.local(of: listener.raw))
    let near = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    try #require(address.withSockaddr { connect(near, $0, $1) } == 0)
    let far = accept(listener.raw, nil, nil)
    try #require(far >= 0 && fcntl(far, F_SETFL, O_NONBLOCK) == 0)
    var patience = timeval(tv_sec: 10, tv_usec: 0)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
        setsockopt(near, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
    }
    return (Peer(socket: near), far)
}

/// The test's end of a socket, with blocking calls. As the hub it reads and writes frames.
final class Peer: @unchecked Sendable {  // each test uses it from one thread for each direction
    let socket: CInt
    private var isOpen = true
    private var receiver = WebSocketReceiver(role: .server)
    private var pending: [UInt8] = []
    private var position = 0

    init(socket: CInt) { self.socket = socket }
    deinit { close() }

    func close() {
        if isOpen { Glibc.close(socket) }
        isOpen = false
    }

    /// Gives the socket on.
    func release() -> CInt {
        isOpen = false
        return socket
    }

    func reset() {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    func finishWriting() { shutdown(socket, CInt(SHUT_WR)) }

    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if count <= 0 { return false }
            sent += count
        }
        return true
    }

    /// Sends until the socket takes no more for half a second; tells how many bytes it took.
    func sendUntilStalled(_ bytes: [UInt8]) -> Int {
        var total = 0
        while true {
            var wish = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
            guard poll(&wish, 1, 500) == 1 else { return total }
            let count = bytes.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            if count < 0 { return total }
            total += count
            if count < bytes.count { return total }  // a frame was cut: good for nothing but the count
        }
    }

    /// Exactly `count` bytes, or fewer when the end comes before.
    func receive(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = [], chunk = [UInt8](repeating: 0, count: 65536)
        while bytes.count < count {
            let got = recv(socket, &chunk, min(chunk.count, count - bytes.count), 0)
            if got <= 0 { break }
            bytes.append(contentsOf: chunk[..<got])
        }
        return bytes
    }

    /// How the input ends: 0 for an orderly end, else the error number.
    func ending() -> CInt {
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = recv(socket, &chunk, chunk.count, 0)
            if got == 0 { return 0 }
            if got < 0 { return errno }
        }
    }

    // Frames

    func sendFrame(_ opcode: WebSocketOpcode, _ payload: [UInt8], fin: Bool = true) {
        var queue = ByteQueue()
        WebSocketFrameHeader.encodeFrame(opcode, payload.span.bytes, fin: fin, into: &queue)
        send(queue.toArray())
    }

    func sendClose(_ code: UInt16?) {
        var queue = ByteQueue()
        WebSocketFrameHeader.encodeClose(code: code, into: &queue)
        send(queue.toArray())
    }

    enum Item: Equatable {
        case data([UInt8])
        case empty
        case pong([UInt8])
        case close(UInt16?)
        case end
        case error(CInt)
    }

    /// The next thing that the bridge says: a piece of data, an empty message, a Pong, a Close or the end.
    func next() throws -> Item {
        while true {
            let event = try pending.withUnsafeMutableBytes { try receiver.next(in: $0, at: &position) }
            switch event {
            case .dataBegin(let opcode, let fin, let length):
                #expect(opcode == .binary && fin && length <= 65536)
                if length == 0 { return .empty }
            case .payload(let range): return .data(Array(pending[range]))
            case .control(let opcode, let payload):
                #expect(opcode == .pong)
                return .pong(payload)
            case .close(let code, _): return .close(code)
            case nil:
                var chunk = [UInt8](repeating: 0, count: 65536)
                let got = recv(socket, &chunk, chunk.count, 0)
                if got == 0 { return .end }
                if got < 0 { return .error(errno) }
                pending = Array(chunk[..<got])
                position = 0
            }
        }
    }

    /// Data up to `count` bytes.
    func data(_ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            guard case .data(let part) = try next() else { break }
            bytes += part
        }
        return bytes
    }
}

/// Bytes that tell their place.
func pattern(_ count: Int, from start: Int = 0) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, length in
        for index in 0..<count { buffer[index] = UInt8(truncatingIfNeeded: ((start + index) &* 2_654_435_761) >> 13) }
        length = count
    }
}
