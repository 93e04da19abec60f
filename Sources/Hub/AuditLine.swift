import Console
import LinuxIO
import Registry

/// What the log says of who was let in and who was not. The outsider is told less.
enum AuditLine {
    static func refused(_ what: String, peer: SocketAddress?, identity: String = "", reason: Refusal) {
        Log.info(
            "refused",
            [
                "what": what, "identity": identity, "peer": peer?.description ?? "", "reason": reason.description,
                "detail": reason.words,
            ])
    }

    static func connected(_ principal: DevicePrincipal, peer: SocketAddress?) {
        let method =
            switch principal.method {
            case .key: "sas"
            case .policy(let name): "policy \(name)"
            case .thumbprint: "x509"
            case .authority(let name, _): "x509 authority \(name)"
            }
        Log.info("device-connected", ["identity": principal.name.clientID, "peer": peer?.description ?? "", "method": method])
    }
}
