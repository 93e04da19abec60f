import Console
import LinuxIO
import Wire

/// By how much the hub's clock differs from ours, where that matters.
struct HubClock: Equatable, Sendable {
    /// Differences up to this are nobody's business, in seconds.
    static let tolerance: Int64 = 60

    /// Seconds to add to our clock; 0 while it is good enough.
    private(set) var offset: Int64 = 0

    /// Takes notice of the hub's time; returns the difference when our clock is off, hub minus own.
    mutating func note(hubSeconds: Int64, ownSeconds: Int64) -> Int64? {
        let (difference, overflow) = hubSeconds.subtractingReportingOverflow(ownSeconds)
        guard !overflow, difference.magnitude > UInt64(Self.tolerance) else {
            offset = 0
            return nil
        }
        offset = difference
        return difference
    }

    func now(ownSeconds: Int64) -> Int64 { ownSeconds &+ offset }
}

/// What a CONNECT says of who we are. Prints without the password.
struct HubCredential: CustomStringConvertible {
    let userName: String
    /// Nil for a device with a certificate.
    let password: String?
    /// When the token ends, in seconds since 1970 by the hub's clock; nil when it never does, or was given to us and cannot be renewed.
    let renewableUntil: Int64?

    /// - Parameter now: the hub's time, seconds since 1970 UTC.
    init(_ connection: ConnectionString, _ client: ClientIdentity, lifetimeSeconds: Int, now: Int64) {
        userName = MQTTUserName.make(
            host: connection.host.host, client: client, apiVersion: "2021-04-12", clientType: "iotstream/\(Product.version)")
        switch connection.credential {
        case .key(let key):
            let expiry = now &+ Int64(lifetimeSeconds)
            password = SASToken.make(
                resource: "\(connection.host.host)/\(client.path)", key: key, expiry: expiry, policy: connection.policy)
            renewableUntil = expiry
        case .signature(let token):
            password = token
            renewableUntil = nil
        case .x509, nil:
            password = nil
            renewableUntil = nil
        }
    }

    var description: String { "HubCredential(\(userName))" }
}
