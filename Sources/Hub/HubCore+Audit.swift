import Audit
import Console
import LinuxIO
import Registry
import Serving
import Wire

/// What the hub's own log and the audit log say of who was let in, who was not, and who changed what. The outsider is told less.
extension HubCore {
    var audit: AuditLog { server.audit }

    /// Somebody has not been let in.
    ///
    /// - Parameters:
    ///   - who: they said they were, as an audit log names it; empty when they did not say.
    ///   - transport: `mqtt`, `mqtt-ws` or `https`.
    ///   - subject: what they wanted, when that says more.
    func refused(
        _ action: String, who actor: String = "", peer: SocketAddress?, _ transport: String, _ reason: Refusal, subject: String = ""
    ) {
        refused(action, who: actor, peer: peer, transport, code: reason.description, reason.words, subject: subject)
    }

    func refused(
        _ action: String, who actor: String = "", peer: SocketAddress?, _ transport: String, code: String, _ words: String = "",
        subject: String = ""
    ) {
        let from = peer?.description ?? ""
        Log.info("refused", ["what": action, "identity": actor, "peer": from, "reason": code, "detail": words])
        audit.record(
            AuditEvent(
                .authentication, action, .refused(code, words), actor: actor, subject: subject, from: from, protocol: transport))
    }

    /// A device or module has connected.
    func connected(_ principal: DevicePrincipal, peer: SocketAddress?, _ transport: String) {
        let method = principal.method.auditName
        Log.info("device-connected", ["identity": principal.name.clientID, "peer": peer?.description ?? "", "method": method])
        admitted("connect", principal.name.auditName, peer, transport, method: method)
    }

    /// A request has been found to come from somebody; told once for each connection and actor.
    func admitted(_ actor: String, on connection: HTTPConnection, method: String) {
        guard connection.actor != actor else { return }
        connection.actor = actor
        admitted("request", actor, connection.peer, "https", method: method)
    }

    private func admitted(_ action: String, _ actor: String, _ peer: SocketAddress?, _ transport: String, method: String) {
        var event = AuditEvent(.authentication, action, actor: actor, from: peer?.description ?? "", protocol: transport)
        event.detail["method"] = .string(method)
        audit.record(event)
    }

    /// A connected device or module has gone, or was put out.
    func disconnected(_ name: ClientIdentity, peer: SocketAddress?, _ transport: String, cause: String, detail: String) {
        Log.info("device-disconnected", ["identity": name.clientID, "reason": cause, "detail": detail])
        var event = AuditEvent(.connection, "ended", actor: name.auditName, from: peer?.description ?? "", protocol: transport)
        event.detail["cause"] = .string(cause)
        if !detail.isEmpty { event.detail["words"] = .string(detail) }
        audit.record(event)
    }

    /// Somebody has changed the registry, or has tried to.
    ///
    /// - Parameter from: the peer's address; empty for the hub itself.
    func changed(_ deeds: [Deed], by actor: String, from: String) {
        for deed in deeds {
            audit.record(AuditEvent(deed, by: actor, from: from, protocol: from.isEmpty ? "" : "https"))
        }
    }
}

extension AuditEvent {
    /// What has been done to the registry.
    package init(_ deed: Deed, by actor: String, from: String = "", protocol transport: String = "") {
        self.init(
            .registry, deed.action, deed.failure.map { .failed(named: $0.name, $0.message) } ?? .ok, actor: actor, subject: deed.subject,
            from: from, protocol: transport, detail: deed.detail)
    }
}

extension DevicePrincipal.Method {
    /// How it was proved, as an audit log names it.
    var auditName: String {
        switch self {
        case .key: "sas"
        case .policy(let name): "policy \(name)"
        case .thumbprint: "x509"
        case .authority(let name, _): "x509 authority \(name)"
        }
    }
}
