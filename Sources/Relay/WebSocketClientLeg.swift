import Bytes
import Connections
import Glibc
import LinuxIO
import Wire

/// The leg of a bridge as the client's end of a WebSocket.
final class WebSocketClientLeg: ClientLeg {
    private static let closingBeatMilliseconds = 1000
    private static let frameBytes = 65536, headerBytes = 14

    private let isHalfClosing: Bool
    private var receiver = WebSocketReceiver(role: .client)
    private var keys = MaskKeys()
    private var closingBeats = 0, flushedBeats = 0
    private var isClosing = false

    /// - Parameter isHalfClosing: an empty message is the end of a direction.
    init(_ channel: consuming Channel, isHalfClosing: Bool) {
        self.isHalfClosing = isHalfClosing
        super.init(channel)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        try channel.carryBulk()
        reactor.setDeadline(of: self, inMilliseconds: isClosing ? Self.closingBeatMilliseconds : Self.beatMilliseconds)
    }

    override func carry(_ bytes: RawSpan, on reactor: Reactor) {
        let frames = (bytes.byteCount + Self.frameBytes - 1) / Self.frameBytes
        sendNow(on: reactor) { output in
            _ = output.reserve(bytes.byteCount + frames * Self.headerBytes)
            var rest = bytes
            while rest.byteCount > 0 {
                let part = rest.extracting(first: min(rest.byteCount, Self.frameBytes))
                rest = rest.extracting(droppingFirst: part.byteCount)
                WebSocketFrameHeader.encodeFrame(.binary, part, maskKey: keys.next(), into: &output)
            }
        }
        push(on: reactor)
    }

    override func endDirection(on reactor: Reactor) -> Bool {
        guard isHalfClosing else { return false }
        let key = keys.next()
        send(on: reactor) { WebSocketFrameHeader(opcode: .binary, maskKey: key, payloadLength: 0).encode(into: &$0) }
        return true
    }

    /// Says Close, and begins to count the time that the peer has to answer it.
    override func close(_ code: UInt16?, on reactor: Reactor) {
        let key = keys.next()
        send(on: reactor) { WebSocketFrameHeader.encodeClose(code: code, maskKey: key, into: &$0) }
        isClosing = true
        reactor.setDeadline(of: self, inMilliseconds: Self.closingBeatMilliseconds)
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        do throws(WebSocketError) {
            try bytes.withUnsafeBytes { raw throws(WebSocketError) in
                // A server's frames have no mask (the receiver refuses them otherwise), so nothing is changed in place.
                let buffer = UnsafeMutableRawBufferPointer(mutating: raw)
                var position = 0
                while let event = try receiver.next(in: buffer, at: &position) {
                    try take(event, of: raw.bytes, &channel, on: reactor)
                }
            }
        } catch {
            bridge?.legBroke(protocol: error, on: reactor)
        }
        return bytes.byteCount
    }

    private func take(_ event: WebSocketEvent, of bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws(WebSocketError) {
        guard let bridge else { return }
        switch event {
        case .dataBegin(let opcode, let fin, let length):
            guard length == 0 else {
                // Whoever has ended his direction says no more in it.
                if bridge.hasLegEnded { throw .messageInterrupted }
                return
            }
            if isHalfClosing, fin, opcode == .binary { bridge.legDirectionEnded(on: reactor) }
        case .payload(let range):
            if bridge.deliver(bytes.extracting(range), on: reactor) { channel.pause() }
        case .control(.ping, let payload):
            // Somebody who pings and does not read gets no answer; a Pong may be left out when a newer one is due.
            if !isClosing, channel.output.count < Channel.highWater {
                WebSocketFrameHeader.encodePong(payload, maskKey: keys.next(), into: &channel.output)
            }
        case .control: return  // an unsolicited Pong
        case .close(let code, _): bridge.legSaidClose(code, on: reactor)
        }
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws { bridge?.legInputEnded(on: reactor) }

    override func expired(on reactor: Reactor) {
        if endIfPathIsDead(on: reactor) { return }
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
