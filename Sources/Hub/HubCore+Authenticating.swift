import LinuxIO
import Registry
import TLS
import Wire

extension HubCore {
    /// Who a device or module is, by its token or its certificate (attestation 5.3).
    ///
    /// - Parameter overHTTPS: it came by an HTTPS listener, as a request or in a WebSocket.
    func authenticate(
        _ name: ClientIdentity, token: String?, certificates: ClientCertificates, overHTTPS: Bool
    ) throws(Refusal) -> DevicePrincipal {
        var switches = self.switches
        if !overHTTPS { switches.refusesAuthorities = false }
        return try registry.authenticateDevice(
            token: token, certificates: certificates, as: name, hosts: names, switches: switches, now: Clock.unixSeconds)
    }
}
