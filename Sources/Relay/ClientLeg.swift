import Bytes
import Connections
import Glibc
import LinuxIO

/// The leg of a bridge, whatever language is spoken on it: what the bridge asks of it, and the watch over its path.
class ClientLeg: Connection {
    static let beatMilliseconds = 5000

    final var bridge: LocalBridge?  // let go when the connection has closed

    /// Takes local bytes along.
    func carry(_ bytes: RawSpan, on reactor: Reactor) {}

    /// The local side says no more; false when this can only be told by ending the stream.
    func endDirection(on reactor: Reactor) -> Bool { false }

    /// The last word, once: `WebSocketClose.normal` when both sides have said all they had to say, and what waits still goes out.
    func close(_ code: UInt16?, on reactor: Reactor) {}

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        try channel.carryBulk()
        reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
    }

    override func expired(on reactor: Reactor) {
        guard endIfPathIsDead(on: reactor) else { return reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds) }
    }

    final func endIfPathIsDead(on reactor: Reactor) -> Bool {
        guard isPathDead() else { return false }
        end(.failed(.system(SystemError("send", ETIMEDOUT))), on: reactor)
        return true
    }

    override func drained(on reactor: Reactor) { bridge?.legDrained(on: reactor) }
    override func drain(on reactor: Reactor) {}
}
