import CLinux
import Glibc

/// Connects to the first address that answers: IPv6 and IPv4 in turn, a new attempt every 250 ms or as soon as one
/// fails, the winner keeps its socket (RFC 8305).
package final class Dialer {
    private var remaining: [SocketAddress]
    private var attempts: [Attempt] = []
    private var lastError = SystemError("connect", ETIMEDOUT)
    private var answer: ((consuming OwnedDescriptor?, SystemError, Reactor) -> Void)?
    private var pacer: Timer?, limit: Timer?
    private let staggerMilliseconds = 250

    /// Starts at once and answers once, with a connected socket or with the last error. The answer may come before this returns.
    @discardableResult
    package init(
        to addresses: [SocketAddress], withinMilliseconds limitMilliseconds: Int, on reactor: Reactor,
        _ answer: @escaping (consuming OwnedDescriptor?, SystemError, Reactor) -> Void
    ) {
        remaining = Self.interleaved(addresses)
        self.answer = answer
        pacer = Timer(on: reactor) { [self] _, reactor in next(on: reactor) }
        limit = Timer(on: reactor) { [self] _, reactor in
            lastError = SystemError("connect", ETIMEDOUT)
            finish(nil, on: reactor)
        }
        limit?.set(inMilliseconds: limitMilliseconds, on: reactor)
        next(on: reactor)
    }

    /// Gives up without an answer.
    package func cancel(on reactor: Reactor) {
        answer = nil
        finish(nil, on: reactor)
    }

    /// The families in turn, beginning with the family of the first address.
    static func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
        guard let first = addresses.first else { return [] }
        let same = addresses.filter { $0.family == first.family }, other = addresses.filter { $0.family != first.family }
        var mixed: [SocketAddress] = []
        for index in 0..<max(same.count, other.count) {
            if index < same.count { mixed.append(same[index]) }
            if index < other.count { mixed.append(other[index]) }
        }
        return mixed
    }

    private func next(on reactor: Reactor) {
        while answer != nil, !remaining.isEmpty {
            let address = remaining.removeFirst()
            do throws(SystemError) {
                let socket = OwnedDescriptor(adopting: try checked(clx_socket(address.family, CInt(SOCK_STREAM.rawValue)), "socket"))
                _ = clx_set_nodelay(socket.raw)
                if address.withSockaddr({ connect(socket.raw, $0, $1) }) == 0 { return finish(socket, on: reactor) }
                guard errno == EINPROGRESS else { throw SystemError("connect") }
                attempts.append(try Attempt(socket, of: self, on: reactor))
                pacer?.set(inMilliseconds: remaining.isEmpty ? nil : staggerMilliseconds, on: reactor)
                return
            } catch {
                lastError = error
            }
        }
        if attempts.isEmpty { finish(nil, on: reactor) }
    }

    fileprivate func settled(_ attempt: Attempt, on reactor: Reactor) {
        attempts.removeAll { $0 === attempt }
        guard let socket = attempt.take(on: reactor) else { return }
        var error: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        getsockopt(socket.raw, SOL_SOCKET, SO_ERROR, &error, &length)
        if error == 0 { return finish(socket, on: reactor) }
        lastError = SystemError("connect", error)
        next(on: reactor)
    }

    private func finish(_ socket: consuming OwnedDescriptor?, on reactor: Reactor) {
        for attempt in exchange(&attempts, with: []) { _ = attempt.take(on: reactor) }
        if let pacer { reactor.remove(pacer) }
        if let limit { reactor.remove(limit) }
        pacer = nil
        limit = nil
        remaining = []
        guard let answer else { return }
        self.answer = nil
        answer(socket, lastError, reactor)
    }

    /// One socket on its way.
    fileprivate final class Attempt: Source {
        private var socket: OwnedDescriptor?
        private let raw: CInt
        private let dialer: Dialer

        init(_ socket: consuming OwnedDescriptor, of dialer: Dialer, on reactor: Reactor) throws(SystemError) {
            raw = socket.raw
            self.socket = consume socket
            self.dialer = dialer
            super.init()
            try reactor.add(self, descriptor: raw, .writable)
        }

        func take(on reactor: Reactor) -> OwnedDescriptor? {
            guard let socket = socket.take() else { return nil }
            reactor.remove(self, descriptor: raw)
            return consume socket
        }

        override func ready(_ readiness: Readiness, on reactor: Reactor) { dialer.settled(self, on: reactor) }
        override func drain(on reactor: Reactor) {}
        override func abort(on reactor: Reactor) { _ = take(on: reactor) }
    }
}
