import Bytes
import Connections
import Glibc
import LinuxIO

/// The local side of a bridge: a plain stream socket.
final class LocalEnd: Connection {
    var bridge: LocalBridge?  // both are let go when the connection has closed

    override init(_ channel: consuming Channel) {
        super.init(channel)
        failsWhilePaused = true
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.transport.keepAlive(idleSeconds: 60, intervalSeconds: 10)
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        if bridge?.receivedLocally(bytes, on: reactor) == true { channel.pause() }
        return bytes.byteCount
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws { bridge?.localInputEnded(on: reactor) }
    override func drained(on reactor: Reactor) { bridge?.localDrained(on: reactor) }

    /// A stream that runs goes on while its process drains.
    override func drain(on reactor: Reactor) {}

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        let bridge = exchange(&self.bridge, with: nil)
        bridge?.localClosed(reason, on: reactor)
    }
}
