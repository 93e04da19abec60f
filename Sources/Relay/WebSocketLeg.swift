import Bytes
import Connections
import LinuxIO
import Wire

/// One leg of a stream at the hub: a WebSocket whose data frames go, unmasked and otherwise as they are, to the other leg
/// (device-streams 6.5 to 6.8). Control frames stay on their leg. The other leg lives on the same reactor.
package final class WebSocketLeg: Connection, HubLeg {
    /// Bytes kept for a leg that is not there yet.
    private static let earlyLimit = 64 << 10
    /// A burst of more empty messages than this within a second is somebody's end of file (device-streams 6.5).
    private static let emptyLimit = 64
    private static let beatMilliseconds = 5000
    /// Beats without a byte taken after which a leg that is to close is given up: its stream is over.
    private static let stalledBeats = 12
    /// Bytes of Pongs and a Close kept behind a frame.
    private static let delayedLimit = 16 << 10

    package weak var owner: (any LegOwner)?
    private var other: WebSocketLeg?
    private var receiver = WebSocketReceiver(role: .server, unmasks: false)
    private var early = ByteQueue()
    /// Empty messages mean the end of a direction between our own end points, and are passed on; otherwise they are dropped.
    package var passesEmpty: Bool
    private var emptyCount = 0, emptySince: UInt64 = 0
    private var hasJoined = false
    /// Whether the frame that is coming in goes to the other leg. One that has begun goes on after a Close, for there is no
    /// place for the other leg's Close before its end.
    private var forwards = false
    /// Bytes of the other leg's frame that are still to be written here: no control frame may come between them.
    private var frameRemaining = 0
    private var delayed = ByteQueue()
    /// Our Close has been sent, or waits for the end of a frame; what comes is dropped.
    private var isClosing = false
    /// The peer's Close has come, and ours waits for the end of a frame.
    private var lingersBehindFrame = false
    /// Nothing comes any more, not even the rest of a frame.
    private var isBroken = false
    private var hasReported = false
    /// How the leg ended while early bytes of its still waited for the other one: both are told together.
    private var heldEnd: LegEnd?
    private var isDismissed = false  // the owner wants no more of it
    private var flushedBeats = 0, stalledBeats = 0, lastQueued = 0
    package var throttle: Throttle?
    /// Payload bytes that came from this leg.
    package private(set) var receivedBytes: UInt64 = 0

    /// - Parameter passesEmpty: both ends chose `half-close`.
    package init(_ channel: consuming Channel, owner: any LegOwner, passesEmpty: Bool) {
        self.owner = owner
        self.passesEmpty = passesEmpty
        var channel = channel
        channel.readsWhileOutputWaits = true
        super.init(channel)
        stallMilliseconds = Self.stalledBeats * Self.beatMilliseconds
    }

    /// Lets bytes flow between two legs, early ones first.
    package static func join(_ one: WebSocketLeg, _ two: WebSocketLeg, on reactor: Reactor) {
        one.other = two
        two.other = one
        one.hasJoined = true
        two.hasJoined = true
        one.release(to: two, on: reactor)
        two.release(to: one, on: reactor)
        for leg in [one, two] {
            if let end = leg.heldEnd { leg.report(end, on: reactor) }
        }
    }

    private func release(to other: WebSocketLeg, on reactor: Reactor) {
        if forwards { other.frameRemaining = receiver.remaining }
        if !early.isEmpty {
            early.withBytes { other.send($0, on: reactor) }
            early = ByteQueue()
        }
        resume(on: reactor)
    }

    /// Ends the leg with a Close frame behind everything that waits, and a few seconds for the peer's reply.
    package func close(code: UInt16, reason: String = "", on reactor: Reactor) {
        isDismissed = true
        guard !isClosing, !hasEnded else { return }
        isClosing = true
        let isIdle = queuedBytes == 0
        if isInFrame, !canEndFrame {
            finish(on: reactor)  // a frame was cut in the middle: no Close can follow it
        } else if isInFrame {
            WebSocketFrameHeader.encodeClose(code: code, reason: reason, into: &delayed)
        } else {
            send(on: reactor) { WebSocketFrameHeader.encodeClose(code: code, reason: reason, into: &$0) }
        }
        if !forwards {  // to find the reply behind what is dropped
            throttleOpened(on: reactor)
            resume(on: reactor)
        }
        flushedBeats = isIdle ? 1 : 0  // nothing is in the Close's way: the peer's time runs from now
        reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
    }

    private var isInFrame: Bool { frameRemaining > 0 }
    /// Whether the rest of the frame that is being written here can still come.
    private var canEndFrame: Bool { other.map { !$0.isBroken && !$0.hasEnded && $0.forwards } ?? false }

    // Connection

    package override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.transport.keepAlive()
        try channel.carryBulk()
        reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
    }

    package override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        do throws(WebSocketError) {
            // The bytes are the reactor's scratch or the channel's own input, and all of them are used up: pings are unmasked in place.
            try bytes.withUnsafeBytes { raw throws(WebSocketError) in
                try consume(UnsafeMutableRawBufferPointer(mutating: raw), &channel, on: reactor)
            }
        } catch {
            // Behind a frame that is cut here its Close cannot be written: the connection just ends.
            if !isClosing, !isInFrame { WebSocketFrameHeader.encodeClose(code: error.closeCode, into: &channel.output) }
            isClosing = true
            channel.finishLingering()
            broken("protocol error: \(error)", on: reactor)
        }
        if let other {
            if other.queuedBytes >= Channel.highWater { other.push(on: reactor) }
            if other.queuedBytes >= Channel.highWater, forwards || !isClosing { channel.pause() }
        } else if early.count >= Self.earlyLimit {
            channel.pause()
        }
        if throttle != nil { channel.readLimit = room(on: reactor) }
        return bytes.byteCount
    }

    /// What has gathered goes out while it is in the processor's cache.
    package override func turnEnded(on reactor: Reactor) { other?.pushAll(on: reactor) }

    /// Bytes to read next; what is dropped costs nothing.
    private func room(on reactor: Reactor) -> Int {
        guard let throttle, forwards || !isClosing else { return .max }
        return throttle.room(for: self, on: reactor)
    }

    package func throttleOpened(on reactor: Reactor) {
        if !hasEnded { limitReading(to: room(on: reactor), on: reactor) }
    }

    private func consume(
        _ buffer: UnsafeMutableRawBufferPointer, _ channel: inout Channel, on reactor: Reactor
    ) throws(WebSocketError) {
        var position = 0
        while let event = try receiver.next(in: buffer, at: &position) {
            switch event {
            case .dataBegin(let opcode, let fin, let length):
                forwards = !isClosing  // what begins after our Close is dropped
                if isClosing { continue }
                if length == 0, fin, opcode != .continuation, !passesEmpty {
                    countEmpty(&channel, on: reactor)
                } else {
                    deliver(WebSocketFrameHeader(fin: fin, opcode: opcode, payloadLength: length), on: reactor)
                }
                if length == 0 { forwards = false }
            case .payload(let range):
                receivedBytes &+= UInt64(range.count)
                throttle?.spend(range.count)
                if forwards { deliver(UnsafeRawBufferPointer(rebasing: buffer[range]).bytes, maskedBy: receiver.payloadKey, on: reactor) }
                if receiver.remaining == 0 { forwards = false }
            case .control(.ping, let payload):
                if !isClosing, channel.output.count < Channel.highWater, delayed.count < Self.delayedLimit {
                    control(&channel.output) { WebSocketFrameHeader.encodePong(payload, into: &$0) }
                }
            case .control: continue  // an unsolicited Pong is swallowed
            case .close(let code, _): peerClosed(code, &channel, on: reactor)
            }
        }
    }

    /// Replies at once, or behind the frame that is being written, and lets the owner close the other leg.
    private func peerClosed(_ code: UInt16?, _ channel: inout Channel, on reactor: Reactor) {
        if isInFrame, !canEndFrame {
            channel.finishLingering()
        } else {
            if !isClosing { control(&channel.output) { WebSocketFrameHeader.encodeClose(code: code, into: &$0) } }
            if isInFrame {
                lingersBehindFrame = true
                reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
            } else {
                channel.finishLingering()
            }
        }
        isClosing = true
        report(.closed(code), on: reactor)
    }

    private func deliver(_ header: WebSocketFrameHeader, on reactor: Reactor) {
        guard let other else {
            if !hasJoined { header.encode(into: &early) }
            return
        }
        other.frameRemaining = header.payloadLength
        other.gather(on: reactor) { header.encode(into: &$0) }
    }

    /// The payload is unmasked on its way into the other leg's output, which goes out at the end of the turn.
    private func deliver(_ payload: RawSpan, maskedBy key: UInt32, on reactor: Reactor) {
        guard let other else {
            if !hasJoined { WebSocketMask.append(payload, key: key, to: &early) }
            return
        }
        other.gather(on: reactor) { WebSocketMask.append(payload, key: key, to: &$0) }
        other.frameRemaining -= payload.byteCount
        if !other.isInFrame { other.frameEnded(on: reactor) }
    }

    /// The place for what waited behind the frame.
    private func frameEnded(on reactor: Reactor) {
        guard !delayed.isEmpty else { return }
        let waiting = exchange(&delayed, with: ByteQueue())
        waiting.withBytes { send($0, on: reactor) }
        if lingersBehindFrame { finishLingering(on: reactor) }
        lingersBehindFrame = false
    }

    /// The rest of the frame will not come; what waits behind it cannot be said any more.
    private func frameCut(on reactor: Reactor) {
        if isInFrame, isClosing { finish(on: reactor) }
    }

    private func countEmpty(_ channel: inout Channel, on reactor: Reactor) {
        if reactor.now &- emptySince > 1000 { (emptyCount, emptySince) = (0, reactor.now) }
        emptyCount += 1
        guard emptyCount > Self.emptyLimit else { return }
        isClosing = true
        control(&channel.output) { WebSocketFrameHeader.encodeClose(code: WebSocketClose.normal, into: &$0) }
        if isInFrame { lingersBehindFrame = true } else { channel.finishLingering() }
        report(.closed(WebSocketClose.normal), on: reactor)
    }

    /// Writes a control frame between frames, never inside one.
    private func control(_ output: inout ByteQueue, _ encode: (inout ByteQueue) -> Void) {
        if isInFrame { encode(&delayed) } else { encode(&output) }
    }

    package override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.finish()
        broken("connection ended without Close", on: reactor)
    }

    private func broken(_ reason: String, on reactor: Reactor) {
        isBroken = true
        report(.broken(reason), on: reactor)
        other?.frameCut(on: reactor)
    }

    package override func drained(on reactor: Reactor) { other?.resume(on: reactor) }

    /// Running streams go on while the hub drains; their time ends with the drain's.
    package override func drain(on reactor: Reactor) {}

    package override func expired(on reactor: Reactor) {
        if isPathDead() {
            return end(.failed(.system(SystemError("send", CInt(110)))), on: reactor)  // ETIMEDOUT
        }
        if isClosing {
            if isInFrame {
                other?.forwards = false
                return finish(on: reactor)
            }
            // Everything has gone out, and the peer had a whole beat to answer our Close.
            let queued = queuedBytes
            flushedBeats = queued == 0 ? flushedBeats + 1 : 0
            if flushedBeats > 1 { return finish(on: reactor) }
            stalledBeats = queued == lastQueued ? stalledBeats + 1 : 0
            lastQueued = queued
            if stalledBeats > Self.stalledBeats { return abort(on: reactor) }
        }
        reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
    }

    package override func closed(_ reason: CloseReason, on reactor: Reactor) {
        switch reason {
        case .failed(let error): broken(error.description, on: reactor)
        case .finished, .aborted: broken("closed by the hub", on: reactor)
        case .refused(let text): broken(text, on: reactor)
        }
        if let other {
            other.other = nil
            self.other = nil
            other.resume(on: reactor)  // it may have waited for our output to drain
        }
    }

    private func report(_ end: LegEnd, on reactor: Reactor) {
        guard !hasReported else { return }
        if !hasJoined, !early.isEmpty, !isDismissed {
            heldEnd = heldEnd ?? end
            return
        }
        hasReported = true
        owner?.ended(self, end, on: reactor)
    }
}
