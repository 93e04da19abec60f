import Console
import LinuxIO
import Trust
import Wire

/// Who the agent is at its end of a stream, and whom it lets in.
struct AgentTrust: Sendable {
    /// The device's certificate, else a key made at the first start.
    let identity: RenewedIdentity
    /// The services that may come in; nil, or not in force: whomever the hub lets through.
    let services: AuthorizedServices?

    /// - Parameter name: of the device, for the certificate that carries a key of its own.
    init(_ arguments: Arguments, _ top: Configuration.Section?, name: String) throws(Failure) {
        identity = try Self.identity(arguments, top, name: name)
        if let named = arguments.text("authorized-services") ?? top?.text("authorized-services") {
            services = AuthorizedServices(path: named, complain: Self.complain)
        } else if let usual = Self.usualServices(arguments, top) {
            services = AuthorizedServices(path: usual, isOptional: true, complain: Self.complain)
        } else {
            services = nil
        }
        // At the start it is better said than later; it may be mended while the agent runs.
        if services?.isInForce == true { try? services?.check() }
    }

    /// Certificate and key as they are configured, else the key of the state directory, made where there is none yet.
    static func identity(_ arguments: Arguments, _ top: Configuration.Section?, name: String) throws(Failure) -> RenewedIdentity {
        let certificate = arguments.text("cert") ?? top?.text("cert"), key = arguments.text("key") ?? top?.text("key")
        guard (certificate == nil) == (key == nil) else { throw .usage("--cert and --key belong together") }
        do throws(TrustError) {
            if let certificate, let key {
                return try RenewedIdentity(certificatePath: certificate, keyPath: key) { Log.warning("certificate", ["reason": $0]) }
            }
            guard let state = arguments.agentStateDirectory(configured: top?.text("state")) else {
                throw TrustError(.homeless, "no place for the agent's key", "name one with --state DIR")
            }
            return RenewedIdentity(try OwnIdentity(keyFile: "\(state)/agent.key", commonName: name))
        } catch {
            throw Failure(exitCode: error.exitStatus, error.what, error.remedy)
        }
    }

    private static func usualServices(_ arguments: Arguments, _ top: Configuration.Section?) -> String? {
        arguments.agentStateDirectory(configured: top?.text("state")).map { "\($0)/authorized_services" }
    }

    @Sendable private static func complain(_ text: String) { Log.error("authorized-services", ["reason": text]) }
}
