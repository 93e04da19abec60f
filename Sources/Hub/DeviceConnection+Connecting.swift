import Console
import LinuxIO
import Registry
import Wire

/// Who is connected, and what was shown for it.
struct DeviceAdmission {
    let principal: DevicePrincipal
    /// For another look when keys change.
    let password: [UInt8]?
    /// The hub's name in the user name.
    let host: String
    /// Of this connection in the directory.
    let serial: UInt64
    /// Whether the session outlives the connection: clean session 0.
    let isDurable: Bool
    /// Whether it goes on with a session that was stored.
    let isResumed: Bool
    /// Silence of the client that ends the connection.
    let silenceMilliseconds: UInt64

    /// The model that it announced, and what it wants to be said when it goes without a word.
    let model: String?
    let will: MQTTWill?

    var name: ClientIdentity { principal.name }

    /// When the token is no longer good even for a clock that is wrong; far from any date when it says so. Seconds since 1970.
    var credentialEnd: Int64? {
        guard let expiry = principal.expiry else { return nil }
        let (end, overflow) = expiry.addingReportingOverflow(SASToken.toleranceSeconds)
        return overflow ? .max : end
    }
}

/// A CONNECT that was found good.
private struct DeviceEntrance: Sendable {
    let connect: MQTTConnect
    let principal: DevicePrincipal
    /// The hub's name in the user name, and the model that was announced.
    let host: String
    let model: String?
}

/// CONNECT, and whether its proof still holds (mqtt-device 3 to 7).
extension DeviceConnection {
    /// Seconds of keep-alive that count at most.
    private static let longestKeepAlive: UInt16 = 1177

    func connect(_ connect: MQTTConnect, on reactor: Reactor) {
        guard let name = ClientIdentity(clientID: connect.clientID) else {
            core.refused("connect", peer: peer, transport, code: "bad-client-id", subject: connect.clientID)
            return refuse(.identifierRejected, on: reactor)
        }
        let principal: DevicePrincipal, host: String, model: String?
        do throws(Refusal) {
            guard let userName = connect.userName.flatMap({ MQTTUserName($0, clientID: connect.clientID) }), core.answers(to: userName.host)
            else { throw .wrongAudience }
            (host, model) = (userName.host, userName.modelID)
            principal = try authenticate(connect.password, as: name)
        } catch {
            core.refused("connect", who: name.auditName, peer: peer, transport, error)
            if case .store = error { return refuse(.serverUnavailable, on: reactor) }
            return refuse(.notAuthorized, on: reactor)
        }
        if let will = connect.will, will.qos > .atLeastOnce || !isTelemetry(will.topic, of: name) {
            core.refused("connect", who: name.auditName, peer: peer, transport, .badWill)
            return refuse(.notAuthorized, on: reactor)
        }
        if core.throttles.refusal(of: .connects) != nil {
            core.refused("connect", who: name.auditName, peer: peer, transport, code: "throttled")
            return refuse(.serverUnavailable, on: reactor)
        }
        guard !reactor.isDraining else { return refuse(.serverUnavailable, on: reactor) }
        let entrance = DeviceEntrance(connect: connect, principal: principal, host: host, model: model)
        let stored = try? core.registry.session(name)
        guard connect.cleanSession, stored != nil else { return enter(entrance, stored, on: reactor) }
        // The old session is gone before the client hears that it has a new one.
        isCommitting = true
        let token = self.token, mailbox = reactor.mailbox
        core.registry.submit(.setSession(name, nil), to: core.writer) { result in
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? DeviceConnection, connection.cutReason == nil else { return }
                connection.isCommitting = false
                guard case .success = result else { return connection.refuse(.serverUnavailable, on: reactor) }
                connection.enter(entrance, nil, on: reactor)
                connection.goOn(on: reactor)
            }
        }
    }

    /// Whoever has proved itself comes in; the newer connection wins.
    private func enter(_ entrance: DeviceEntrance, _ stored: MQTTSession?, on reactor: Reactor) {
        let connect = entrance.connect, principal = entrance.principal, name = principal.name
        if !connect.cleanSession { subscriptions = stored?.subscriptions ?? [] }
        if let model = entrance.model, !model.isEmpty {
            core.registry.submit(.setModel(name, model), to: core.writer) { [core] _ in core.stirred(name) }
        }
        let keepAlive = connect.keepAliveSeconds == 0 ? Self.longestKeepAlive : min(connect.keepAliveSeconds, Self.longestKeepAlive)
        let (serial, displaced) = core.directory.enter(name, by: principal.method, mailbox: reactor.mailbox, token: token)
        core.stirred(name)
        certificates.keepLeaf()
        admission = DeviceAdmission(
            principal: principal, password: connect.password, host: entrance.host, serial: serial, isDurable: !connect.cleanSession,
            isResumed: !connect.cleanSession && stored != nil, silenceMilliseconds: UInt64(keepAlive) * 1500, model: entrance.model,
            will: connect.will)
        if let displaced {
            displaced.mailbox.send { reactor in (reactor.source(displaced.token) as? DeviceConnection)?.cut(.takenOver, on: reactor) }
        }
        emit(.connack(sessionPresent: stored != nil, code: .accepted), on: reactor)
        core.connected(principal, peer: peer, transport)
        heard(on: reactor)
        checkCredential(on: reactor)  // who was shut out before it was entered was not found here
        tellInterests()
        deliver(on: reactor)
    }

    private func isTelemetry(_ topic: String, of name: ClientIdentity) -> Bool {
        if case .telemetry? = try? HubTopic.classify(topic, from: name) { true } else { false }
    }

    private func authenticate(_ password: [UInt8]?, as name: ClientIdentity) throws(Refusal) -> DevicePrincipal {
        var token: String?
        if let password, !password.isEmpty {
            token = password.span.bytes.toString()
            if token == nil { throw .malformedToken }
        }
        return try core.authenticate(name, token: token, certificates: certificates, overHTTPS: authority != nil)
    }

    func isLetIn(by policy: String) -> Bool { admission?.principal.method == .policy(policy) }

    func isLetIn(byAuthority name: String) -> Bool {
        if case .authority(name, _)? = admission?.principal.method { true } else { false }
    }

    /// Something about the identity or its keys has changed: may it still be here?
    func checkCredential(on reactor: Reactor) {
        guard let admission else { return }
        do throws(Refusal) {
            let again = try authenticate(admission.password, as: admission.name)
            if again.generationID != admission.principal.generationID { cut(.disabled, on: reactor) }
        } catch {
            switch error {
            case .store, .expired: break
            case .unknownIdentity, .disabled: cut(.disabled, on: reactor)
            default: cut(.revoked, on: reactor)
            }
        }
    }
}
