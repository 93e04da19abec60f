import Bytes
import Connections
import LinuxIO
import Wire

/// The leg of a bridge that carries an end-to-end session and no framing.
///
///     bytes              ◄─────►       bytes
///     end of file        ◄─────►       close_notify; FIN when both directions have ended
///     RST                ◄─────►       RST
///     RST                ◄──────       an end without close_notify, or a failure of TLS
final class SealedLeg: ClientLeg {
    private var isClosing = false

    override init(_ channel: consuming Channel) {
        var channel = channel
        channel.keepsFIN = true
        super.init(channel)
        resetsOnFailure = true  // a close_notify would pass off a part for the whole
    }

    override func carry(_ bytes: RawSpan, on reactor: Reactor) { sendNow(bytes, on: reactor) }

    override func endDirection(on reactor: Reactor) -> Bool {
        finishWriting(on: reactor)
        return true
    }

    override func close(_ code: UInt16?, on reactor: Reactor) {
        isClosing = true
        guard code == WebSocketClose.normal else { return reset(on: reactor) }
        // Input that nobody reads makes the kernel send RST behind our last words.
        if bridge?.hasLegEnded == true { finish(on: reactor) } else { finishLingering(on: reactor) }
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        if bridge?.deliver(bytes, isWhole: true, on: reactor) == true { channel.pause() }
        return bytes.byteCount
    }

    /// The peer has said close_notify; a FIN without one is a failure, and comes as such.
    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws { bridge?.legDirectionEnded(on: reactor) }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        let bridge = exchange(&self.bridge, with: nil)
        bridge?.sealedLegClosed(reason, on: reactor)
    }
}
