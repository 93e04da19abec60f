import Bytes
import Connections
import Glibc
import LinuxIO
import Wire

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

/// The leg of a bridge: the client's end of a WebSocket.
final class LegEnd: Connection {
    private static let beatMilliseconds = 5000, closingBeatMilliseconds = 1000

    var bridge: LocalBridge?
    private var receiver = WebSocketReceiver(role: .client)
    private var closingBeats = 0, flushedBeats = 0
    private var isClosing = false

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        reactor.setDeadline(of: self, inMilliseconds: isClosing ? Self.closingBeatMilliseconds : Self.beatMilliseconds)
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        do throws(WebSocketError) {
            try bytes.withUnsafeBytes { raw throws(WebSocketError) in
                // A server's frames have no mask (the receiver refuses them otherwise), so nothing is changed in place.
                let buffer = UnsafeMutableRawBufferPointer(mutating: raw)
                var position = 0
                while let event = try receiver.next(in: buffer, at: &position) {
                    try bridge?.received(event, of: raw.bytes, &channel, on: reactor)
                }
            }
        } catch {
            bridge?.legBroke(protocol: error, on: reactor)
        }
        return bytes.byteCount
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws { bridge?.legInputEnded(on: reactor) }
    override func drained(on reactor: Reactor) { bridge?.legDrained(on: reactor) }
    override func drain(on reactor: Reactor) {}

    /// Begins to count the time that the peer has to answer our Close.
    func awaitEnd(on reactor: Reactor) {
        isClosing = true
        reactor.setDeadline(of: self, inMilliseconds: Self.closingBeatMilliseconds)
    }

    override func expired(on reactor: Reactor) {
        if isPathDead() { return end(.failed(.system(SystemError("send", ETIMEDOUT))), on: reactor) }
        guard isClosing else { return reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds) }
        closingBeats += 1
        flushedBeats = queuedBytes == 0 ? flushedBeats + 1 : 0
        // After an orderly end what waits may take its time; the five seconds begin when it has gone out.
        let beats = bridge?.reason == .orderly && bridge?.isCloseReceived == false ? flushedBeats : closingBeats
        if beats >= 5 { return abort(on: reactor) }
        reactor.setDeadline(of: self, inMilliseconds: Self.closingBeatMilliseconds)
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        let bridge = exchange(&self.bridge, with: nil)
        bridge?.legClosed(reason, on: reactor)
    }
}

/// Masking keys from the kernel's random numbers, 64 at a time: RFC 6455 section 5.3 wants them unpredictable.
struct MaskKeys {
    private var keys = InlineArray<64, UInt32>(repeating: 0)
    private var left = 0

    mutating func next() -> UInt32 {
        if left == 0 {
            var span = keys.mutableSpan
            let isFilled = span.withUnsafeMutableBytes { getentropy($0.baseAddress, $0.count) == 0 }
            guard isFilled else { return WebSocketMask.randomKey() }
            left = 64
        }
        left -= 1
        return keys[left]
    }
}
