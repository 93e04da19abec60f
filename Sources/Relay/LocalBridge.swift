import Bytes
import Connections
import LinuxIO
import Wire

/// One local connection and the leg that carries it, for the agent and for the service proxy alike. On a WebSocket bytes become masked
/// binary messages, and messages become bytes (device-streams 6.5 to 6.8); what an end-to-end session has instead is with `SealedLeg`.
///
/// First only the local side is there. Nothing is read from it, but it is noticed when it breaks. `join` adds the leg; both live
/// on one reactor. A side that does not read stops the reading of the other side, and nothing else; what waits here is bounded.
///
///     local                          leg
///     end of file      ──────►       empty message (half-close), else Close 1000
///     end of file      ◄──────       empty message
///     FIN, after all   ◄─────►       Close 1000
///     RST              ◄─────►       Close 4000
///     RST              ◄──────       any other Close, or an end without one
package final class LocalBridge {
    /// Why the stream is over. The first reason counts.
    package enum End: Equatable, Sendable, CustomStringConvertible {
        /// Both sides had said all they had to say.
        case orderly
        /// The local connection broke.
        case localReset
        /// The connection at the other end of the stream broke (Close 4000).
        case peerReset
        /// The leg ended before its time; why.
        case broken(String)
        /// The peer of the end-to-end session gave up with an alert; in its words.
        case alert(String)
        /// The hub's bytes were no WebSocket; what was wrong.
        case protocolError(WebSocketError)
        /// `refuse` was called: no leg came to be.
        case refused
        /// `abort` was called, or the reactor ended.
        case aborted

        /// A word or two for the log.
        package var description: String {
            switch self {
            case .orderly: "done"
            case .localReset: "local connection reset"
            case .peerReset: "reset by the other side"
            case .broken(let reason): "stream broke: \(reason)"
            case .alert(let words): "stream broke: the peer refused: \(words)"
            case .protocolError(let error): "protocol error: \(error)"
            case .refused: "refused"
            case .aborted: "stopped"
            }
        }
    }

    /// What the owner is told at the end.
    package struct Report: Equatable, Sendable {
        package let end: End
        /// Payload bytes, both ways.
        package let bytesFromLocal, bytesToLocal: UInt64
    }

    /// Close codes of ours: device-streams leaves 4000 to 4999 to applications.
    package static let resetCode: UInt16 = 4000

    /// Smaller pieces are gathered: there may be many of them in one read.
    private static let directBytes = 4096

    private var local: LocalEnd?
    private var leg: ClientLeg?
    private var carrier: WebSocketCarrier?
    private var ended: ((LocalBridge, Report, Reactor) -> Void)?
    private(set) var reason: End?
    private var hasLocalEnded = false
    private(set) var hasLegEnded = false
    private(set) var isCloseSent = false, isCloseReceived = false
    private var isLocalDismissed = false
    /// Payload bytes so far.
    package private(set) var bytesFromLocal: UInt64 = 0, bytesToLocal: UInt64 = 0

    /// Takes a connected stream socket, non-blocking.
    /// - Parameter ended: called once, when both sides are over and their descriptors on their way out.
    package init(
        local socket: consuming OwnedDescriptor, on reactor: Reactor, ended: @escaping (LocalBridge, Report, Reactor) -> Void
    ) {
        self.ended = ended
        var channel = Channel(Transport(socket))
        channel.readsWhileOutputWaits = true
        channel.readsMuch = true
        channel.pause()
        let local = LocalEnd(channel)
        self.local = local
        local.bridge = self
        local.start(on: reactor)
    }

    /// Whether `ended` has been called, or will be without anybody's doing because the local connection broke.
    package var isOver: Bool { reason != nil }
    /// Whether a leg is there.
    package var hasLeg: Bool { leg != nil }

    /// Adds the leg and lets the bytes flow.
    /// - Parameters:
    ///   - channel: a WebSocket's, after the 101; what came behind it is still unread in it.
    ///   - isHalfClosing: both ends have chosen `half-close`.
    package func join(_ channel: consuming Channel, isHalfClosing: Bool, on reactor: Reactor) {
        guard leg == nil else { return }
        join(WebSocketClientLeg(Self.prepare(channel), isHalfClosing: isHalfClosing), on: reactor)
    }

    /// Adds a leg that carries an end-to-end session without framing, and lets the bytes flow.
    /// - Parameters:
    ///   - channel: over TLS, its handshake over and the peer's identity checked.
    ///   - carrier: what carries the session, unless its socket is the leg itself. The bridge is over when both are.
    package func join(sealed channel: consuming Channel, inside carrier: WebSocketCarrier? = nil, on reactor: Reactor) {
        guard leg == nil else { return }
        if let carrier, !carrier.isOver {
            self.carrier = carrier
            carrier.ended = { [self] reactor in
                // A socket pair does not tell of a break behind the end of a direction.
                if carrier.failure != nil { self.leg?.abort(on: reactor) }
                reportIfOver(on: reactor)
            }
        }
        join(SealedLeg(Self.prepare(channel)), on: reactor)
    }

    private static func prepare(_ channel: consuming Channel) -> Channel {
        var channel = channel
        channel.readsWhileOutputWaits = true
        channel.readsMuch = true
        channel.transport.keepAlive()
        return channel
    }

    private func join(_ leg: ClientLeg, on reactor: Reactor) {
        self.leg = leg
        leg.bridge = self
        leg.start(on: reactor)
        guard let local else { return sendClose(Self.resetCode, on: reactor) }  // it broke while the leg was on its way
        local.resume(on: reactor)
    }

    /// No leg will come: the local connection is reset.
    package func refuse(on reactor: Reactor) {
        guard leg == nil else { return abort(on: reactor) }
        settle(on: .refused)
        local?.reset(on: reactor)
    }

    /// Breaks the stream off: the local connection is reset, and the other end is told that we are going away.
    package func abort(on reactor: Reactor) {
        settle(on: .aborted)
        sendClose(WebSocketClose.goingAway, on: reactor)
        leg?.finish(on: reactor)
        local?.reset(on: reactor)
    }

    /// Ends the stream as though both sides had said all they had to say; what waits still goes out.
    package func finish(on reactor: Reactor) {
        settle(on: .orderly)
        sendClose(WebSocketClose.normal, on: reactor)
        dismissLocal(on: reactor)
    }

    /// As though the local connection had been reset.
    package func resetLocal(on reactor: Reactor) {
        settle(on: .localReset)
        local?.reset(on: reactor)
        sendClose(Self.resetCode, on: reactor)
    }

    private func settle(on end: End) { if reason == nil { reason = end } }

    private func sendClose(_ code: UInt16?, on reactor: Reactor) {
        guard !isCloseSent, let leg else { return }
        isCloseSent = true
        leg.close(code, on: reactor)
        if code != WebSocketClose.normal { carrier?.breakOff(isReset: code == Self.resetCode, on: reactor) }
    }

    /// Flushes what waits for the local side, then ends it; what it still sends is dropped.
    private func dismissLocal(on reactor: Reactor) {
        guard !isLocalDismissed else { return }
        isLocalDismissed = true
        local?.finishLingering(on: reactor)
    }

    // What the local side does

    /// Takes local bytes to the leg; whether it wants no more for now.
    func receivedLocally(_ bytes: RawSpan, on reactor: Reactor) -> Bool {
        guard let leg, !isCloseSent else { return false }
        bytesFromLocal &+= UInt64(bytes.byteCount)
        leg.carry(bytes, on: reactor)
        return leg.queuedBytes >= Channel.highWater
    }

    func localInputEnded(on reactor: Reactor) {
        guard !hasLocalEnded, let leg else { return }
        hasLocalEnded = true
        guard !isCloseSent else { return }
        guard leg.endDirection(on: reactor) else {
            settle(on: .orderly)
            return sendClose(WebSocketClose.normal, on: reactor)
        }
        endIfBothEnded(on: reactor)
    }

    func localDrained(on reactor: Reactor) { leg?.resume(on: reactor) }

    func localClosed(_ closing: CloseReason, on reactor: Reactor) {
        local = nil
        switch closing {
        case .failed:
            settle(on: .localReset)
            sendClose(Self.resetCode, on: reactor)
        default:
            if !isLocalDismissed {
                settle(on: .aborted)
                sendClose(WebSocketClose.goingAway, on: reactor)
            }
        }
        leg?.resume(on: reactor)  // it may have waited for our output
        reportIfOver(on: reactor)
    }

    // What the leg does

    /// Takes the peer's bytes to the local side; whether it wants no more for now.
    /// - Parameter isWhole: all that one read has brought.
    func deliver(_ bytes: RawSpan, isWhole: Bool = false, on reactor: Reactor) -> Bool {
        guard let local, !isLocalDismissed else { return false }
        bytesToLocal &+= UInt64(bytes.byteCount)
        if isWhole || bytes.byteCount >= Self.directBytes { local.sendNow(bytes, on: reactor) } else { local.send(bytes, on: reactor) }
        return local.queuedBytes >= Channel.highWater
    }

    /// The peer's local side says no more.
    func legDirectionEnded(on reactor: Reactor) {
        guard !hasLegEnded else { return }
        hasLegEnded = true
        local?.finishWriting(on: reactor)
        endIfBothEnded(on: reactor)
    }

    func legSaidClose(_ code: UInt16?, on reactor: Reactor) {
        isCloseReceived = true
        sendClose(code, on: reactor)
        leg?.finishLingering(on: reactor)
        switch code {
        case nil, WebSocketClose.normal:
            settle(on: .orderly)
            dismissLocal(on: reactor)
        case Self.resetCode:
            settle(on: .peerReset)
            local?.reset(on: reactor)
        case let code?:
            settle(on: .broken("closed with code \(code)"))
            local?.reset(on: reactor)
        }
    }

    func legBroke(protocol error: WebSocketError, on reactor: Reactor) {
        settle(on: .protocolError(error))
        sendClose(error.closeCode, on: reactor)
        leg?.finishLingering(on: reactor)
        local?.reset(on: reactor)
    }

    /// The leg ended, with or without a Close before.
    func legInputEnded(on reactor: Reactor) {
        leg?.finish(on: reactor)
        guard !isCloseReceived else { return }
        lost("connection ended without Close", on: reactor)
    }

    func legDrained(on reactor: Reactor) { local?.resume(on: reactor) }

    func legClosed(_ closing: CloseReason, on reactor: Reactor) {
        leg = nil
        if !isCloseReceived {
            switch closing {
            case .failed(let error): lost(error.description, on: reactor)
            case .refused(let text): lost(text, on: reactor)
            case .finished: lost("connection ended", on: reactor)
            case .aborted: isCloseSent ? lost("no answer to Close", on: reactor) : abort(on: reactor)
            }
        }
        reportIfOver(on: reactor)
    }

    /// Bytes may be missing, either way, unless the leg was closed because both sides had ended.
    func sealedLegClosed(_ closing: CloseReason, on reactor: Reactor) {
        leg = nil
        switch closing {
        case .finished where isCloseSent: break
        case .failed(let error) where error.isReset: breakOff(.peerReset, on: reactor)
        case .failed(.tls(.alert(let words))): breakOff(.alert(words), on: reactor)
        case .failed(let error): breakOff(.broken(error.description), on: reactor)
        case .refused(let text): breakOff(.broken(text), on: reactor)
        case .finished: breakOff(.broken("connection ended"), on: reactor)
        case .aborted: breakOff(.aborted, on: reactor)
        }
        reportIfOver(on: reactor)
    }

    private func breakOff(_ end: End, on reactor: Reactor) {
        if reason == nil || reason == .orderly { reason = carrier?.failure ?? end }
        local?.reset(on: reactor)
    }

    private func endIfBothEnded(on reactor: Reactor) {
        guard hasLocalEnded, hasLegEnded else { return }
        settle(on: .orderly)
        sendClose(WebSocketClose.normal, on: reactor)
        dismissLocal(on: reactor)
    }

    /// The leg is gone and did not say Close: unless everything had been said, bytes may be missing.
    private func lost(_ why: String, on reactor: Reactor) {
        if isLocalDismissed { return }
        if reason == nil || reason == .orderly { reason = .broken(why) }
        local?.reset(on: reactor)
    }

    private func reportIfOver(on reactor: Reactor) {
        guard local == nil, leg == nil, carrier?.isOver != false, let ended else { return }
        self.ended = nil
        ended(self, Report(end: reason ?? .aborted, bytesFromLocal: bytesFromLocal, bytesToLocal: bytesToLocal), reactor)
    }
}
