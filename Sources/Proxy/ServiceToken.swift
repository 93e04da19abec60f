import Wire

/// The token of a service's policy, made anew before it ends, by the hub's clock. Prints without secrets.
struct ServiceToken: CustomStringConvertible {
    private static let lifetimeSeconds: Int64 = 3600, renewalSeconds: Int64 = 600
    /// Differences between the clocks up to this do no harm, in seconds.
    static let toleranceSeconds: Int64 = 60

    private let connection: ConnectionString
    private var made: (text: String, expiry: Int64)?
    /// Seconds to add to our clock to have the hub's.
    private(set) var offset: Int64 = 0

    /// - Parameter connection: a policy's, with a key or a signature.
    init(_ connection: ConnectionString) { self.connection = connection }

    /// The value of the Authorization field.
    /// - Parameter now: our own clock, seconds since 1970 UTC.
    mutating func text(now: Int64) -> String {
        switch connection.credential {
        case .signature(let text): return text
        case .key(let key):
            let hubNow = now &+ offset
            if let made, made.expiry &- hubNow > Self.renewalSeconds { return made.text }
            let expiry = hubNow &+ Self.lifetimeSeconds
            let text = SASToken.make(resource: connection.host.host, key: key, expiry: expiry, policy: connection.policy)
            made = (text, expiry)
            return text
        case .x509, nil: return ""
        }
    }

    /// Takes notice of the hub's clock; true when ours turned out to be off, and the token was made for a wrong time.
    mutating func note(hubSeconds: Int64?, now: Int64) -> Bool {
        guard let hubSeconds else { return false }
        let (difference, overflow) = hubSeconds.subtractingReportingOverflow(now)
        guard !overflow, difference.subtractingReportingOverflow(offset).partialValue.magnitude > UInt64(Self.toleranceSeconds) else {
            return false
        }
        offset = difference
        made = nil
        return true
    }

    var description: String { "ServiceToken(\(connection))" }
}
