import Connections
import Glibc
import LinuxIO

/// A WebSocket that carries an end-to-end session, made to look like a socket: one end of a socket pair is the local side of a bridge,
/// the other end is as good as a blind leg. End of file is an empty message both ways; resets and breaks of either side reach the other
/// as an end without close_notify, and the bridge of the session asks here what it was.
package final class WebSocketCarrier {
    private var bridge: LocalBridge?
    private let socket: OwnedSocket
    /// How the WebSocket ended, as soon as it is known.
    private(set) var reason: LocalBridge.End?
    /// Called once when nothing is left of it.
    var ended: ((Reactor) -> Void)?
    private(set) var isOver = false

    private final class OwnedSocket {
        var descriptor: OwnedDescriptor?
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = consume descriptor }
    }

    /// - Parameter channel: a WebSocket's, after the 101, on which both ends have chosen `e2e`.
    package init(_ channel: consuming Channel, on reactor: Reactor) throws(SystemError) {
        var pair: [CInt] = [-1, -1]
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0, &pair) == 0 else {
            throw SystemError("socketpair")
        }
        socket = OwnedSocket(OwnedDescriptor(adopting: pair[0]))
        let bridge = LocalBridge(local: OwnedDescriptor(adopting: pair[1]), on: reactor) { [self] _, report, reactor in
            reason = report.end
            self.bridge = nil
            isOver = true
            ended.take()?(reactor)
        }
        self.bridge = bridge
        bridge.join(channel, isHalfClosing: true, on: reactor)
    }

    /// The socket for the session, once.
    package func takeSocket() -> OwnedDescriptor? { socket.descriptor.take() }

    /// What broke the WebSocket; nil while nothing did.
    var failure: LocalBridge.End? {
        switch reason ?? bridge?.reason {
        case .peerReset: .peerReset
        case .broken(let text): .broken(text)
        case .protocolError(let error): .protocolError(error)
        default: nil
        }
    }

    /// The session was broken off: tells the other end whether its local connection was reset or we are going away.
    func breakOff(isReset: Bool, on reactor: Reactor) {
        if isReset { bridge?.resetLocal(on: reactor) } else { bridge?.abort(on: reactor) }
    }

    /// No session will come. What was said in the handshake, an alert for one, still goes out; a peer that does not go then is left.
    package func abandon(on reactor: Reactor) {
        socket.descriptor = nil
        guard bridge != nil else { return }
        let timer = Timer(on: reactor) { [weak self] timer, reactor in
            reactor.remove(timer)
            self?.bridge?.abort(on: reactor)
        }
        timer.set(inMilliseconds: 3000, on: reactor)
    }
}
