import Bytes
import Connections
import Console
import Enrollments
import LinuxIO
import Serving
import TLS
import Wire

/// A device's MQTT connection to the service, plain or inside a WebSocket (dps 2).
final class ProvisioningConnection: MQTTConnection {
    /// Milliseconds in which a device has to register.
    private static let idleMilliseconds: UInt64 = 60_000
    /// Seconds of keep-alive that count at most.
    private static let longestKeepAlive: UInt16 = 1177

    private let core: ProvisioningCore
    private var caller: DeviceCaller?
    /// The quality at which answers go out; nil before SUBSCRIBE.
    private var granted: MQTTQoS?
    private var lastID: UInt16 = 0
    /// Registrations whose answer is to come.
    private var waiting = 0
    private var silenceMilliseconds: UInt64 = 0
    private var lastHeard: UInt64 = 0, idleSince: UInt64 = 0
    private var hasRegistered = false, isOver = false
    private var certificates = ClientCertificates()
    private var mailbox: Mailbox?

    /// - Parameter framing: may have packets in it already.
    init(_ channel: consuming Channel, core: ProvisioningCore, framing: consuming DeviceFraming) {
        self.core = core
        super.init(channel, framing: framing, openingSeconds: core.server.limits.handshakeSeconds)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        try super.opened(&channel, on: reactor)
        certificates = ClientCertificates(channel.peerChain)
        mailbox = reactor.mailbox
        processUnwrapped(on: reactor)
    }

    // Packets

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        guard !isOver else { return bytes.byteCount }
        lastHeard = reactor.now
        return take(bytes, on: reactor)
    }

    override func goodbye(fault: String?, on reactor: Reactor) { cut(fault ?? "", on: reactor) }

    override func process(_ bytes: RawSpan, on reactor: Reactor) -> Int {
        let limit = core.server.limits.packetBytes  // behind a lock: once for all packets of a read
        var used = 0
        do throws(MQTTError) {
            while used < bytes.byteCount, !isOver {
                let rest = bytes.extracting(used..<bytes.byteCount)
                guard case .complete(let packet, let consumed) = try MQTTPacket.parse(rest, limit: limit) else { break }
                used += consumed
                handle(packet, rest, on: reactor)
            }
        } catch {
            cut("\(error)", on: reactor)
        }
        setDeadline(on: reactor)
        return isOver ? bytes.byteCount : used
    }

    private func handle(_ packet: MQTTPacket, _ bytes: RawSpan, on reactor: Reactor) {
        guard let caller else {
            switch packet {
            case .connect(let connect): return self.connect(connect, on: reactor)
            case .connectOfOtherVersion: return refuse(.unacceptableProtocolVersion, "another version of MQTT", on: reactor)
            default: return cut("the first packet is not CONNECT", on: reactor)
            }
        }
        switch packet {
        case .pingreq: emit(.pingresp, on: reactor)
        case .publish(let publish): self.publish(publish, bytes.extracting(publish.payload), of: caller, on: reactor)
        case .subscribe(let id, let wanted):
            let codes = wanted.map { $0.filter == ProvisioningRequest.answers ? min($0.qos, .atLeastOnce) : nil }
            granted = codes.compactMap { $0 }.last ?? granted
            emit(.suback(packetID: id, granted: codes), on: reactor)
        case .unsubscribe(let id, let filters):
            if filters.contains(ProvisioningRequest.answers) { granted = nil }
            emit(.unsuback(packetID: id), on: reactor)
        case .puback: break
        case .disconnect: cut("", on: reactor)
        default: cut("a packet that a client does not send now", on: reactor)
        }
    }

    // CONNECT

    /// Lets in whoever is well formed: what the device shows is judged with its first request, whose answer can say more (dps 2.2).
    private func connect(_ connect: MQTTConnect, on reactor: Reactor) {
        guard Identifier.isValidRegistrationID(connect.clientID) else {
            return refuse(.identifierRejected, "the client id is no registration id", on: reactor)
        }
        guard let name = connect.userName.flatMap({ ProvisioningUserName($0, clientID: connect.clientID) }) else {
            return refuse(.badUserNameOrPassword, "the user name has another form, or names another device", on: reactor)
        }
        let password = connect.password.flatMap { $0.isEmpty ? nil : $0 }, token = password?.span.bytes.toString()
        if password == nil, certificates.isEmpty { return refuse(.notAuthorized, "neither a token nor a certificate", on: reactor) }
        if password != nil, token.flatMap({ try? SASToken(parsing: $0) }) == nil {
            return refuse(.notAuthorized, "the password is no token", on: reactor)
        }
        guard !reactor.isDraining else { return refuse(.serverUnavailable, "draining", on: reactor) }
        let caller = DeviceCaller(
            scope: name.scope, registrationID: name.registrationID, apiVersion: name.apiVersion, token: token,
            from: peer?.description ?? "", transport: transport)
        self.caller = caller
        let keepAlive = connect.keepAliveSeconds == 0 ? Self.longestKeepAlive : min(connect.keepAliveSeconds, Self.longestKeepAlive)
        silenceMilliseconds = UInt64(keepAlive) * 1500
        idleSince = reactor.now
        lastHeard = reactor.now
        if let displaced = core.presence.enter(key, reactor.mailbox, self.token) {
            displaced.mailbox.send { reactor in
                (reactor.source(displaced.token) as? ProvisioningConnection)?.displaced(on: reactor)
            }
        }
        emit(.connack(sessionPresent: false, code: .accepted), on: reactor)
    }

    private var key: String { caller?.registrationID.lowercased() ?? "" }

    private func refuse(_ code: MQTTConnectCode, _ reason: String, on reactor: Reactor) {
        emit(.connack(sessionPresent: false, code: code), on: reactor)
        cut(reason, on: reactor)
    }

    // Requests

    private func publish(_ publish: MQTTPublish, _ payload: RawSpan, of caller: DeviceCaller, on reactor: Reactor) {
        guard publish.qos < .exactlyOnce, !publish.retain, let request = ProvisioningRequest(topic: publish.topic) else {
            return cut("a publish that is no request", on: reactor)
        }
        // Before the answer: a client waits for it in this order (dps 2.4).
        if let id = publish.packetID { emit(.puback(packetID: id), on: reactor) }
        guard let rid = request.rid else { return }
        switch request.kind {
        case .poll(let operation): answer(core.poll(caller, certificates, operation: operation), rid: rid, on: reactor)
        case .register:
            guard waiting < 4 else { return answer(DeviceAnswer(.refused(code: 429001, "one at a time")), rid: rid, on: reactor) }
            waiting += 1
            let token = self.token, mailbox = reactor.mailbox
            core.register(caller, certificates, body: payload.toArray()) { answer in
                mailbox.send { reactor in
                    guard let connection = reactor.source(token) as? ProvisioningConnection else { return }
                    connection.waiting -= 1
                    connection.answer(answer, rid: rid, on: reactor)
                }
            }
        }
    }

    private func answer(_ answer: DeviceAnswer, rid: String, on reactor: Reactor) {
        guard !isOver, !hasEnded, let granted else { return }
        if answer.status < 300 { hasRegistered = true }
        let topic = ProvisioningRequest.answer(status: answer.status, rid: rid, retryAfterSeconds: answer.retryAfter)
        if granted == .atLeastOnce { lastID = lastID == .max ? 1 : lastID + 1 }
        let publish = MQTTPublish(topic: topic, qos: granted, packetID: granted == .atLeastOnce ? lastID : nil)
        emit(.publish(publish), payload: answer.body.bytes().span.bytes, on: reactor)
    }

    // Time and the end

    private func setDeadline(on reactor: Reactor) {
        guard caller != nil, !isOver else { return }
        var wait = silenceMilliseconds - min(reactor.now &- lastHeard, silenceMilliseconds)
        if !hasRegistered { wait = min(wait, Self.idleMilliseconds - min(reactor.now &- idleSince, Self.idleMilliseconds)) }
        reactor.setDeadline(of: self, inMilliseconds: Int(clamping: wait))
    }

    override func expired(on reactor: Reactor) {
        guard caller != nil else { return cut("no CONNECT in time", on: reactor) }
        if reactor.now &- lastHeard >= silenceMilliseconds { return cut("silent for longer than its keep-alive", on: reactor) }
        if !hasRegistered, waiting == 0, reactor.now &- idleSince >= Self.idleMilliseconds { return cut("has not registered", on: reactor) }
        setDeadline(on: reactor)
    }

    private func displaced(on reactor: Reactor) {
        leave("another connection of the same device has come")
        end(.aborted, on: reactor)
    }

    /// Ends the connection once what waits has gone out.
    ///
    /// - Parameter reason: for the log; empty when the device has ended it in order.
    private func cut(_ reason: String, on reactor: Reactor) {
        guard !isOver, !hasEnded else { return }
        leave(reason)
        finishLingering(on: reactor)
    }

    private func leave(_ reason: String) {
        guard !isOver else { return }
        isOver = true
        if !reason.isEmpty {
            Log.info("device-cut", ["registration": caller?.registrationID ?? "", "peer": peer?.description ?? "", "reason": reason])
        }
        if caller != nil, let mailbox { core.presence.leave(key, mailbox, token) }
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        leave("")
        channel.finish()
    }

    override func drain(on reactor: Reactor) { cut("draining", on: reactor) }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        if case .failed(let error) = reason { leave(error.description) } else { leave("") }
    }
}
