import Bytes
import Glibc
import LinuxIO
import Wire

/// The CONNECT exchange with a proxy on a plain socket. Takes the proxy's head off the socket and not a byte more.
final class ProxyTunnel: Source {
    typealias Answer = (consuming Result<OwnedDescriptor, DialError>, Reactor) -> Void

    private var socket: OwnedDescriptor?
    private let raw: CInt
    private let proxy: ProxyServer
    private var request = ByteQueue()
    private var answer: Answer?
    private static let headLimit = 16 << 10

    init(
        _ socket: consuming OwnedDescriptor, through proxy: ProxyServer, to target: HostPort, on reactor: Reactor,
        _ answer: @escaping Answer
    ) throws(SystemError) {
        raw = socket.raw
        self.proxy = proxy
        self.answer = answer
        self.socket = consume socket
        super.init()
        proxy.request(to: target).encode(into: &request)
        try reactor.add(self, descriptor: raw, [.readable, .writable, .hangup, .edgeTriggered])
        reactor.revisit(self)
    }

    func cancel(on reactor: Reactor) {
        answer = nil
        _ = take(on: reactor)
    }

    override var isBackground: Bool { true }
    override func abort(on reactor: Reactor) { cancel(on: reactor) }

    override func ready(_ readiness: Readiness, on reactor: Reactor) {
        guard answer != nil else { return }
        do throws(DialError) {
            try write()
            guard try readHead(reactor.scratch) else { return }
            guard let answer = answer.take(), let socket = take(on: reactor) else { return }
            answer(.success(socket), reactor)
        } catch {
            _ = take(on: reactor)
            if let answer = answer.take() { answer(.failure(error), reactor) }
        }
    }

    private func write() throws(DialError) {
        while !request.isEmpty {
            let count = request.withBytes { bytes in bytes.withUnsafeBytes { send(raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) } }
            if count >= 0 { request.consume(count) } else if errno == EAGAIN { return } else if errno != EINTR { throw broken() }
        }
    }

    /// Looks at what has come without taking it; true once the head was complete, said yes, and has been taken.
    private func readHead(_ room: UnsafeMutableRawBufferPointer) throws(DialError) -> Bool {
        let room = UnsafeMutableRawBufferPointer(rebasing: room[..<min(room.count, Self.headLimit)])
        let count = recv(raw, room.baseAddress, room.count, CInt(MSG_PEEK))
        if count < 0 {
            if errno == EAGAIN || errno == EINTR { return false }
            throw broken()
        }
        guard count > 0 else { throw .proxyBroken(proxy: proxy.description, reason: "hung up without an answer") }
        let head: HTTPResponseHead, length: Int
        do throws(HTTPError) {
            guard
                case .complete(let value, let consumed) = try HTTPResponseHead.parse(UnsafeRawBufferPointer(rebasing: room[..<count]).bytes)
            else {
                guard count < room.count else { throw HTTPError.headTooLarge }
                return false
            }
            (head, length) = (value, consumed)
        } catch {
            throw .proxyBroken(proxy: proxy.description, reason: "does not answer as an HTTP proxy: \(error)")
        }
        guard 200..<300 ~= head.status else {
            throw .proxyRefused(proxy: proxy.description, status: head.status, hadPassword: proxy.credentials != nil)
        }
        guard recv(raw, room.baseAddress, length, 0) == length else { throw broken() }
        return true
    }

    private func broken() -> DialError { .proxyBroken(proxy: proxy.description, reason: SystemError("connection").reason) }

    private func take(on reactor: Reactor) -> OwnedDescriptor? {
        guard let socket = socket.take() else { return nil }
        reactor.remove(self, descriptor: raw)
        return consume socket
    }
}
