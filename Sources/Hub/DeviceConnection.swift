import Bytes
import Connections
import Console
import LinuxIO
import Registry
import Serving
import TLS
import Wire

/// A device's or module's MQTT connection, plain on the MQTT port or inside a WebSocket on the HTTPS port (mqtt-device 2 to 7).
///
/// Here: packets in and out, silence, and the end. Its parts: who is connected (`+Connecting`), what it listens to (`+Subscribing`), what it
/// publishes (`+Publishing`, `+Telemetry`), its twin (`+Twin`), messages to it (`+Messages`), what
/// the hub asks of it (`+Asking`).
final class DeviceConnection: MQTTConnection {
    /// Why the hub ends a connection; the word goes to the log.
    enum Cut: String {
        case takenOver = "taken-over", keepAlive = "keep-alive-timeout", throttled, expired = "token-expired", disabled =
            "disabled-or-deleted"
        case revoked = "credential-revoked", unavailable = "storage-unavailable"
        case protocolError = "protocol-error", noConnect = "no-connect-in-time", draining, said = "disconnected"
    }

    let core: HubCore
    /// Host and port of the hub as the device reached it over HTTPS; nil on the MQTT port.
    let authority: HostPort?
    /// Nil before CONNECT and after the end.
    var admission: DeviceAdmission?
    var subscriptions: [MQTTSession.Subscription] = []
    /// A SUBACK waits for the disk, and what is behind it waits too.
    var isCommitting = false
    var questions = DeviceQuestions()
    var acknowledgements = DeviceAcknowledgements()
    var outbox = DeviceOutbox()
    var telemetry = DeviceTelemetry()
    /// Until when nothing is read, as there was too much; in milliseconds of the reactor's clock.
    private var heldUntil: UInt64?
    private(set) var certificates = ClientCertificates()
    private var lastHeard: UInt64 = 0
    private(set) var cutReason: Cut?
    private var isLeaving = false

    init(_ channel: consuming Channel, core: HubCore, framing: DeviceFraming.Kind, authority: HostPort?) {
        self.core = core
        self.authority = authority
        super.init(channel, framing: DeviceFraming(framing), openingSeconds: core.servingLimits.handshakeSeconds)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        try super.opened(&channel, on: reactor)
        certificates = ClientCertificates(channel.peerChain)
    }

    // Packets

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        guard cutReason == nil else { return bytes.byteCount }
        guard !isLeaving else { return 0 }
        heard(on: reactor)
        return take(bytes, on: reactor)
    }

    override func goodbye(fault: String?, on reactor: Reactor) {
        cut(fault == nil ? .said : .protocolError, detail: fault ?? "", on: reactor)
    }

    /// CONNECT was meant for the neighbour, who reads it again.
    override func handedOn(_ channel: consuming Channel, on reactor: Reactor) {
        core.neighbour?.adopt(channel, takeFraming()).start(on: reactor)
    }

    override func process(_ bytes: RawSpan, on reactor: Reactor) -> Int {
        let limit = core.servingLimits.packetBytes  // behind a lock: once for all packets of a read
        var used = 0
        do throws(MQTTError) {
            while used < bytes.byteCount, cutReason == nil, !isHeld {
                let rest = bytes.extracting(used..<bytes.byteCount)
                guard case .complete(let packet, let consumed) = try MQTTPacket.parse(rest, limit: limit) else { break }
                if admission == nil, case .connect(let connect) = packet, core.neighbour?.owns(connect) == true {
                    isLeaving = true
                    handOn(on: reactor)
                    break
                }
                used += consumed
                handle(packet, rest, on: reactor)
            }
        } catch {
            cut(.protocolError, detail: "\(error)", on: reactor)
        }
        recordGathered(on: reactor)
        if isHeld { pause(on: reactor) }
        return cutReason == nil ? used : bytes.byteCount
    }

    /// Whether what comes next has to wait.
    var isHeld: Bool { isCommitting || telemetry.isDeferred || acknowledgements.isFull || heldUntil != nil }

    /// Reads nothing more for so long.
    func hold(milliseconds: Int, on reactor: Reactor) {
        heldUntil = reactor.now &+ UInt64(milliseconds)
        setDeadline(on: reactor)
    }

    /// Goes on after `isHeld` has become false.
    func goOn(on reactor: Reactor) {
        guard !isHeld else { return }
        processUnwrapped(on: reactor)
        if !isHeld { resume(on: reactor) }
    }

    /// - Parameter bytes: begin with the packet's.
    private func handle(_ packet: MQTTPacket, _ bytes: RawSpan, on reactor: Reactor) {
        guard admission != nil else {
            switch packet {
            case .connect(let connect): return self.connect(connect, on: reactor)
            case .connectOfOtherVersion: return refuse(.unacceptableProtocolVersion, on: reactor)
            default: return cut(.protocolError, detail: "the first packet is not CONNECT", on: reactor)
            }
        }
        switch packet {
        case .pingreq: emit(.pingresp, on: reactor)
        case .publish(let publish): self.publish(publish, payload: bytes.extracting(publish.payload), on: reactor)
        case .subscribe(let id, let wanted): subscribe(id, wanted, on: reactor)
        case .unsubscribe(let id, let filters): unsubscribe(id, filters, on: reactor)
        case .puback(let id): acknowledged(id, on: reactor)
        case .disconnect: cut(.said, on: reactor)
        default: cut(.protocolError, detail: "a packet that a client does not send now", on: reactor)
        }
    }

    /// A device that does not read what waits for it is not there.
    var isListening: Bool { cutReason == nil && !hasEnded && queuedBytes < Channel.highWater }

    // Time

    func heard(on reactor: Reactor) {
        lastHeard = reactor.now
        setDeadline(on: reactor)
    }

    /// Silence, or the end of the token: what comes first.
    private func setDeadline(on reactor: Reactor) {
        guard let admission else { return }
        let silent = reactor.now &- lastHeard
        var wait = admission.silenceMilliseconds - min(silent, admission.silenceMilliseconds)
        if let heldUntil { wait = heldUntil - min(reactor.now, heldUntil) }  // nobody listens to it
        if let end = admission.credentialEnd { wait = min(wait, UInt64(max(0, end &- Clock.unixSeconds)).multipliedClamping(by: 1000)) }
        reactor.setDeadline(of: self, inMilliseconds: Int(clamping: wait))
    }

    override func expired(on reactor: Reactor) {
        guard let admission else { return cut(.noConnect, on: reactor) }
        if let end = admission.credentialEnd, Clock.unixSeconds >= end { return cut(.expired, on: reactor) }
        if let heldUntil {
            guard reactor.now >= heldUntil else { return setDeadline(on: reactor) }
            self.heldUntil = nil
            heard(on: reactor)
            return goOn(on: reactor)
        }
        if reactor.now &- lastHeard >= admission.silenceMilliseconds { return cut(.keepAlive, on: reactor) }
        setDeadline(on: reactor)
    }

    // The end

    /// Ends the connection once what waits has gone out; for good reasons only.
    func cut(_ reason: Cut, detail: String = "", on reactor: Reactor) {
        guard cutReason == nil, !hasEnded else { return }
        cutReason = reason
        leave(reason.rawValue, detail: detail)
        if reason == .keepAlive || reason == .takenOver {
            end(.aborted, on: reactor)  // nobody may be there to read what waits
        } else {
            finishLingering(on: reactor)
        }
    }

    /// Answers CONNECT with a refusal and ends.
    func refuse(_ code: MQTTConnectCode, on reactor: Reactor) {
        emit(.connack(sessionPresent: false, code: code), on: reactor)
        cutReason = .said
        finishLingering(on: reactor)
    }

    /// Tells the directory and whoever waits for an answer; once.
    private func leave(_ reason: String, detail: String) {
        questions.abandon()
        if reason != Cut.said.rawValue { leaveWill() }
        guard let admission else {
            if !detail.isEmpty || reason != Cut.said.rawValue {
                Log.info("device-refused", ["peer": peer?.description ?? "", "reason": reason, "detail": detail])
            }
            return
        }
        core.directory.leave(admission.name, serial: admission.serial)
        core.stirred(admission.name)
        core.abandonMessages(of: admission.name.deviceID, heldBy: .connection(admission.serial))
        core.disconnected(admission.name, peer: peer, transport, cause: reason, detail: detail)
        self.admission = nil
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        if cutReason == nil {
            cutReason = .said
            leave("connection-ended", detail: "")
        }
        channel.finish()
    }

    override func drain(on reactor: Reactor) { cut(.draining, on: reactor) }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        guard cutReason == nil else { return }
        cutReason = .said
        switch reason {
        case .failed(let error): leave("connection-failed", detail: error.description)
        case .refused(let text): leave("connection-failed", detail: text)
        case .finished, .aborted: leave("closed", detail: "")
        }
    }
}

extension UInt64 {
    /// The product, or the greatest number.
    fileprivate func multipliedClamping(by factor: UInt64) -> UInt64 {
        let (product, overflow) = multipliedReportingOverflow(by: factor)
        return overflow ? .max : product
    }
}
