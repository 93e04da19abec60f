import Bytes
import Connections
import Console
import Glibc
import LinuxIO
import Registry
import Streams
import Wire

/// A device's or module's MQTT connection, plain on the MQTT port or inside a WebSocket on the HTTPS port (mqtt-device 2 to 7).
final class DeviceConnection: Connection {
    enum Framing { case plain, webSocket }

    /// Why the hub ends a connection; the word goes to the log.
    enum Cut: String {
        case takenOver = "taken-over", keepAlive = "keep-alive-timeout", expired = "token-expired", disabled = "disabled-or-deleted"
        case revoked = "credential-revoked"
        case protocolError = "protocol-error", noConnect = "no-connect-in-time", draining, said = "disconnected"
    }

    private struct Pending {
        let stream: StreamIdentifier
        let home: Mailbox
    }

    let core: HubCore
    private let framing: Framing
    /// Host and port of the hub as the device reached it over HTTPS; nil on the MQTT port.
    private let authority: HostPort?
    private var receiver = WebSocketReceiver(role: .server)
    private var packets = ByteQueue()  // MQTT taken out of frames
    private var principal: DevicePrincipal?
    private var password: [UInt8]?  // for another look when keys change
    private var hostUsed = ""
    private var serial: UInt64 = 0
    private var isDurable = false
    private var subscriptions: [MQTTSession.Subscription] = []
    private var silenceMilliseconds: UInt64 = 0
    private var lastHeard: UInt64 = 0
    private var cutReason: Cut?
    private var isCommitting = false  // a SUBACK waits for the disk, and what is behind it waits too
    private var nextRid: UInt64 = 1
    private var pending: [String: Pending] = [:]

    init(_ channel: consuming Channel, core: HubCore, framing: Framing, authority: HostPort?) {
        self.core = core
        self.framing = framing
        self.authority = authority
        super.init(channel)
        openingMilliseconds = core.limits.handshakeSeconds * 1000
        stallMilliseconds = HubLimits.stallMilliseconds
    }

    private static let streamRequests = "$iothub/streams/POST/#"

    var takesStreams: Bool { subscriptions.contains { $0.filter == Self.streamRequests } }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.transport.keepAlive(idleSeconds: 60, intervalSeconds: 10)
        reactor.setDeadline(of: self, inMilliseconds: core.limits.handshakeSeconds * 1000)
        chain = channel.peerChain
    }

    private var chain: [[UInt8]] = []

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        guard cutReason == nil else { return bytes.byteCount }
        heard(on: reactor)
        if framing == .plain { return try process(bytes, on: reactor) }
        do throws(WebSocketError) {
            // The bytes are ours and used up whole: unmasking in place harms nobody.
            try bytes.withUnsafeBytes { raw throws(WebSocketError) in
                try unwrap(UnsafeMutableRawBufferPointer(mutating: raw), on: reactor)
            }
        } catch {
            send(on: reactor) { WebSocketFrameHeader.encodeClose(code: error.closeCode, into: &$0) }
            cut(.protocolError, detail: "\(error)", on: reactor)
        }
        try processUnwrapped(on: reactor)
        return bytes.byteCount
    }

    private func unwrap(_ buffer: UnsafeMutableRawBufferPointer, on reactor: Reactor) throws(WebSocketError) {
        var position = 0
        while let event = try receiver.next(in: buffer, at: &position) {
            switch event {
            case .dataBegin: continue  // the payload is a stream of bytes whatever its frames (mqtt-device 2.2)
            case .payload(let range): packets.append(UnsafeRawBufferPointer(rebasing: buffer[range]).bytes)
            case .control(.ping, let payload):
                if queuedBytes < Channel.highWater { send(on: reactor) { WebSocketFrameHeader.encodePong(payload, into: &$0) } }
            case .control: continue
            case .close(let code, _):
                send(on: reactor) { WebSocketFrameHeader.encodeClose(code: code, into: &$0) }
                if cutReason == nil { cut(.said, on: reactor) }
            }
        }
    }

    private func processUnwrapped(on reactor: Reactor) throws {
        guard !packets.isEmpty else { return }
        var held = exchange(&packets, with: ByteQueue())
        let used = try held.withBytes { try process($0, on: reactor) }
        held.consume(used)
        packets = held
    }

    /// Works off whole packets and returns how many bytes they had.
    private func process(_ bytes: RawSpan, on reactor: Reactor) throws -> Int {
        let limit = core.limits.packetBytes  // behind a lock: once for all packets of a read
        var used = 0
        do throws(MQTTError) {
            while used < bytes.byteCount, cutReason == nil, !isCommitting {
                let rest = bytes.extracting(used..<bytes.byteCount)
                guard case .complete(let packet, let consumed) = try MQTTPacket.parse(rest, limit: limit) else { break }
                used += consumed
                handle(packet, on: reactor)
            }
        } catch {
            cut(.protocolError, detail: "\(error)", on: reactor)
        }
        return cutReason == nil ? used : bytes.byteCount
    }

    private func handle(_ packet: MQTTPacket, on reactor: Reactor) {
        guard principal != nil else {
            switch packet {
            case .connect(let connect): return self.connect(connect, on: reactor)
            case .connectOfOtherVersion: return refuse(.unacceptableProtocolVersion, on: reactor)
            default: return cut(.protocolError, detail: "the first packet is not CONNECT", on: reactor)
            }
        }
        switch packet {
        case .pingreq: emit(.pingresp, on: reactor)
        case .publish(let publish): self.publish(publish, on: reactor)
        case .subscribe(let id, let wanted): subscribe(id, wanted, on: reactor)
        case .unsubscribe(let id, let filters): unsubscribe(id, filters, on: reactor)
        case .puback: break  // nothing of ours goes out at QoS 1 yet
        case .disconnect: cut(.said, on: reactor)
        default: cut(.protocolError, detail: "a packet that a client does not send now", on: reactor)
        }
    }

    private func emit(_ packet: MQTTPacket, on reactor: Reactor) {
        send(on: reactor) { output in
            if framing == .plain {
                _ = try? packet.write(to: &output)
                return
            }
            var frame = ByteQueue()
            _ = try? packet.write(to: &frame)
            frame.withBytes { WebSocketFrameHeader.encodeFrame(.binary, $0, into: &output) }
        }
    }

    // CONNECT

    private func connect(_ connect: MQTTConnect, on reactor: Reactor) {
        guard let name = ClientIdentity(clientID: connect.clientID) else { return refuse(.identifierRejected, on: reactor) }
        let proven: DevicePrincipal
        do throws(Refusal) {
            guard let userName = connect.userName.flatMap({ MQTTUserName($0, clientID: connect.clientID) }), core.answers(to: userName.host)
            else { throw .wrongAudience }
            hostUsed = userName.host
            proven = try authenticate(connect.password, as: name)
        } catch {
            AuditLine.refused("device", peer: peer, identity: connect.clientID, reason: error)
            if case .store = error { return refuse(.serverUnavailable, on: reactor) }
            return refuse(.notAuthorized, on: reactor)
        }
        guard !reactor.isDraining else { return refuse(.serverUnavailable, on: reactor) }
        let stored = try? core.registry.session(name)
        isDurable = !connect.cleanSession
        if isDurable {
            subscriptions = stored?.subscriptions ?? []
        } else if stored != nil {
            core.registry.submit(.setSession(name, nil), to: core.writer) { _ in }
        }
        principal = proven
        password = connect.password
        let seconds = UInt64(connect.keepAliveSeconds == 0 ? Self.longestKeepAlive : min(connect.keepAliveSeconds, Self.longestKeepAlive))
        silenceMilliseconds = seconds * 1500
        let (serial, displaced) = core.directory.enter(name, mailbox: reactor.mailbox, token: token)
        self.serial = serial
        if let displaced {
            displaced.mailbox.send { reactor in (reactor.source(displaced.token) as? DeviceConnection)?.cut(.takenOver, on: reactor) }
        }
        emit(.connack(sessionPresent: isDurable && stored != nil, code: .accepted), on: reactor)
        AuditLine.connected(proven, peer: peer)
        heard(on: reactor)
        checkCredential(on: reactor)  // who was shut out before it was entered was not found here
        if takesStreams { core.directory.setTakesStreams(true, name, serial: serial) }
    }

    private static let longestKeepAlive: UInt16 = 1177

    private func authenticate(_ password: [UInt8]?, as name: ClientIdentity) throws(Refusal) -> DevicePrincipal {
        if let password, !password.isEmpty {
            return try core.registry.authenticateDevice(
                token: password.span.bytes.toString(), as: name, hosts: core.names, now: Clock.unixSeconds)
        }
        guard let leaf = chain.first else { throw .noCredential }
        guard let thumbprints = LeafThumbprints(der: leaf, now: Clock.unixSeconds) else { throw .wrongCertificate }
        return try core.registry.authenticateDevice(sha1: thumbprints.sha1, sha256: thumbprints.sha256, as: name)
    }

    func isLetIn(by policy: String) -> Bool { principal?.method == .policy(policy) }

    /// Something about the identity or its keys has changed: may it still be here?
    func checkCredential(on reactor: Reactor) {
        guard let principal else { return }
        do throws(Refusal) {
            let again = try authenticate(password, as: principal.name)
            if again.generationID != principal.generationID { cut(.disabled, on: reactor) }
        } catch {
            switch error {
            case .store, .expired: break
            case .unknownIdentity, .disabled: cut(.disabled, on: reactor)
            default: cut(.revoked, on: reactor)
            }
        }
    }

    private func refuse(_ code: MQTTConnectCode, on reactor: Reactor) {
        emit(.connack(sessionPresent: false, code: code), on: reactor)
        cutReason = .said
        finishLingering(on: reactor)
    }

    // Subscriptions

    private func subscribe(_ packetID: UInt16, _ wanted: [MQTTSubscription], on reactor: Reactor) {
        guard let name = principal?.name else { return }
        var granted: [MQTTQoS?] = []
        var next = subscriptions
        for subscription in wanted {
            // Filters of features that this hub does not serve are refused, not silently accepted.
            let filter = HubFilter(subscription.filter, from: name)
            guard filter == .streamRequests || filter == .streamAnswers else {
                granted.append(nil)
                continue
            }
            let qos = min(subscription.qos, .atLeastOnce)
            granted.append(qos)
            next.removeAll { $0.filter == subscription.filter }
            next.append(.init(filter: subscription.filter, qos: qos.rawValue))
        }
        change(to: next, then: .suback(packetID: packetID, granted: granted), on: reactor)
    }

    private func unsubscribe(_ packetID: UInt16, _ filters: [String], on reactor: Reactor) {
        change(to: subscriptions.filter { !filters.contains($0.filter) }, then: .unsuback(packetID: packetID), on: reactor)
    }

    /// Takes new subscriptions; a durable session's are on disk before they are acknowledged.
    private func change(to next: [MQTTSession.Subscription], then acknowledgement: MQTTPacket, on reactor: Reactor) {
        guard let name = principal?.name else { return }
        guard isDurable, next != subscriptions else {
            subscriptions = next
            return changed(acknowledgement, on: reactor)
        }
        subscriptions = next
        isCommitting = true
        pause(on: reactor)
        let token = self.token, serial = self.serial, mailbox = reactor.mailbox
        core.registry.submit(.setSession(name, MQTTSession(subscriptions: next)), to: core.writer) { result in
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? DeviceConnection, connection.serial == serial else { return }
                connection.isCommitting = false
                switch result {
                case .success: connection.changed(acknowledgement, on: reactor)
                case .failure: connection.cut(.protocolError, detail: "the session could not be stored", on: reactor)
                }
                try? connection.processUnwrapped(on: reactor)
                if !connection.isCommitting { connection.resume(on: reactor) }
            }
        }
    }

    private func changed(_ acknowledgement: MQTTPacket, on reactor: Reactor) {
        emit(acknowledgement, on: reactor)
        if let name = principal?.name { core.directory.setTakesStreams(takesStreams, name, serial: serial) }
    }

    // Publishing

    private func publish(_ publish: MQTTPublish, on reactor: Reactor) {
        guard let name = principal?.name, publish.qos < .exactlyOnce else {
            return cut(.protocolError, detail: "QoS 2 is not served", on: reactor)
        }
        do throws(HubTopicError) {
            switch try HubTopic.classify(publish.topic, from: name) {
            case .streamAnswer(let answer):
                if let answer { answered(answer, on: reactor) }
            case .telemetry, .twinGet, .twinPatch, .methodResponse:
                return cut(.protocolError, detail: "this hub does not serve telemetry, twins and methods", on: reactor)
            }
        } catch {
            return cut(.protocolError, detail: "publish to a topic that is not the device's: \(error)", on: reactor)
        }
        if publish.qos == .atLeastOnce, let id = publish.packetID { emit(.puback(packetID: id), on: reactor) }
    }

    // Streams

    /// Publishes a request for a stream; false when the device cannot take one.
    func requestStream(
        _ stream: StreamIdentifier, home: Mailbox, name: String, path: String, token: String, offer: String?, on reactor: Reactor
    ) -> Bool {
        // A device that does not read what waits for it is not there.
        guard takesStreams, cutReason == nil, !hasEnded, queuedBytes < Channel.highWater else { return false }
        let rid = String(nextRid)
        nextRid += 1
        let place = authority ?? HostPort(host: hostUsed, port: core.httpsPort)
        let url = StreamURL(host: place.host, port: place.port ?? 443, path: path)
        let request = StreamRequest(
            streamName: name, rid: rid, url: url.description, auth: token, fields: offer.map { [TopicField("$offer", $0)] } ?? [])
        guard let topic = try? request.topic() else { return false }
        pending[rid] = Pending(stream: stream, home: home)
        emit(.publish(MQTTPublish(topic: topic)), on: reactor)
        return true
    }

    /// The stream is over or answered; a late answer is ignored.
    func forgetStream(_ stream: StreamIdentifier) {
        if let rid = pending.first(where: { $0.value.stream == stream })?.key { pending[rid] = nil }
    }

    private func answered(_ answer: StreamAnswer, on reactor: Reactor) {
        guard let waiting = pending.removeValue(forKey: answer.rid) else { return }
        let stream = waiting.stream, isAccepted = answer.isAccepted
        let chosen = answer.fields["$chosen"], reason = answer.fields["$reason"].map { String($0.prefix(200)) }
        waiting.home.send { reactor in
            Desk.of(reactor)?.stream(stream)?.answered(isAccepted: isAccepted, chosen: chosen, reason: reason, on: reactor)
        }
    }

    // Time and the end

    private func heard(on reactor: Reactor) {
        lastHeard = reactor.now
        setDeadline(on: reactor)
    }

    /// Silence, or the end of the token: what comes first.
    private func setDeadline(on reactor: Reactor) {
        guard principal != nil else { return }
        let silent = reactor.now &- lastHeard
        var wait = silenceMilliseconds - min(silent, silenceMilliseconds)
        if let credentialEnd { wait = min(wait, UInt64(max(0, credentialEnd &- Clock.unixSeconds)).multipliedClamping(by: 1000)) }
        reactor.setDeadline(of: self, inMilliseconds: Int(clamping: wait))
    }

    /// When the token is no longer good even for a clock that is wrong; far from any date when it says so.
    private var credentialEnd: Int64? {
        guard let expiry = principal?.expiry else { return nil }
        let (end, overflow) = expiry.addingReportingOverflow(SASToken.toleranceSeconds)
        return overflow ? .max : end
    }

    override func expired(on reactor: Reactor) {
        guard principal != nil else { return cut(.noConnect, on: reactor) }
        if let credentialEnd, Clock.unixSeconds >= credentialEnd { return cut(.expired, on: reactor) }
        if reactor.now &- lastHeard >= silenceMilliseconds { return cut(.keepAlive, on: reactor) }
        setDeadline(on: reactor)
    }

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

    /// Tells the directory and the streams that wait for an answer; once.
    private func leave(_ reason: String, detail: String) {
        for waiting in exchange(&pending, with: [:]).values {
            let stream = waiting.stream
            waiting.home.send { reactor in Desk.of(reactor)?.stream(stream)?.handle(.deviceLost, on: reactor) }
        }
        guard let principal else {
            if !detail.isEmpty || reason != Cut.said.rawValue {
                Log.info("device-refused", ["peer": peer?.description ?? "", "reason": reason, "detail": detail])
            }
            return
        }
        core.directory.leave(principal.name, serial: serial)
        Log.info("device-disconnected", ["identity": principal.name.clientID, "reason": reason, "detail": detail])
        self.principal = nil
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
