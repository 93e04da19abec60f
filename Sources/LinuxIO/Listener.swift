import CLinux
import Glibc

/// Accepts connections, level-triggered; when descriptors run out it rests for a second instead of spinning.
package final class Listener: Source {
    private let socket: OwnedDescriptor
    private let accepted: (consuming OwnedDescriptor, SocketAddress?, Reactor) -> Void
    private let restMilliseconds = 1000

    /// Opens a listening socket. With `isShared` several reactors may each listen on the same address (SO_REUSEPORT): only for
    /// addresses that a first socket without it has proven to be free, or a stale process would share them unnoticed.
    package static func open(
        at address: SocketAddress, isShared: Bool = false, backlog: CInt = 4096
    ) throws(SystemError) -> OwnedDescriptor {
        let socket = OwnedDescriptor(adopting: try checked(clx_socket(address.family, CInt(SOCK_STREAM.rawValue)), "socket"))
        let raw = socket.raw
        func set(_ level: CInt, _ option: CInt, _ value: CInt) {
            var value = value
            setsockopt(raw, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
        }
        set(SOL_SOCKET, SO_REUSEADDR, 1)
        if isShared { set(SOL_SOCKET, SO_REUSEPORT, 1) }
        if address.family == AF_INET6 { set(CInt(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
        guard address.withSockaddr({ bind(raw, $0, $1) }) == 0 else { throw SystemError("bind") }
        guard listen(socket.raw, backlog) == 0 else { throw SystemError("listen") }
        return socket
    }

    /// Takes a listening socket and hands each connection, already non-blocking and without Nagle's delay, to `accepted`. Connections
    /// inherit what is set for the listening socket, keep-alive too.
    package init(
        _ socket: consuming OwnedDescriptor, on reactor: Reactor,
        accepted: @escaping (consuming OwnedDescriptor, SocketAddress?, Reactor) -> Void
    ) throws(SystemError) {
        self.socket = socket
        self.accepted = accepted
        super.init()
        _ = clx_set_nodelay(self.socket.raw)
        try reactor.add(self, descriptor: self.socket.raw, .readable)
    }

    /// Where it listens, with the port the kernel chose for port 0.
    package var address: SocketAddress? { SocketAddress.local(of: socket.raw) }

    public override func ready(_ readiness: Readiness, on reactor: Reactor) {
        for _ in 0..<64 {
            var storage = sockaddr_storage()
            var length = UInt32(MemoryLayout<sockaddr_storage>.size)
            let result = withUnsafeMutablePointer(to: &storage) { clx_accept(socket.raw, $0, &length) }
            guard result >= 0 else {
                if result != -EAGAIN, result != -ECONNABORTED, result != -EINTR {
                    reactor.watch(self, descriptor: socket.raw, [])
                    reactor.setDeadline(of: self, inMilliseconds: restMilliseconds)
                }
                if result == -ECONNABORTED || result == -EINTR { continue }
                return
            }
            let peer = withUnsafePointer(to: &storage) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { SocketAddress($0) }
            }
            accepted(OwnedDescriptor(adopting: result), peer, reactor)
        }
    }

    public override func deadlinePassed(on reactor: Reactor) { reactor.watch(self, descriptor: socket.raw, .readable) }
    public override func drain(on reactor: Reactor) { reactor.remove(self, descriptor: socket.raw) }
    public override func abort(on reactor: Reactor) { reactor.remove(self, descriptor: socket.raw) }
}
