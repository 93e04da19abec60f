/// Why a text is no shared access signature. Names fields, never their values.
package enum SASError: Error, Equatable {
    /// It does not begin with `SharedAccessSignature` and one space, or is not visible ASCII behind that.
    case notAToken
    case missing(String)
    case duplicate(String)
    case malformed(String)
}

/// A shared access signature: `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]`
/// (attestation 3, mqtt-device 4). Prints without its signature.
package struct SASToken: Equatable, Sendable, CustomStringConvertible, CustomReflectable {
    /// `sr` exactly as transmitted: this is what was signed.
    package let writtenResource: String
    /// Seconds since 1970 UTC.
    package let expiry: Int64
    /// The name of a shared access policy; nil for a key of the identity itself. An empty `skn` counts as none.
    package let policy: String?

    private let signature: [UInt8]
    private let writtenExpiry: String

    /// Seconds by which clocks may differ (attestation 3).
    package static let toleranceSeconds: Int64 = 300
    private static let prefix = "SharedAccessSignature "

    /// Reads a token. Parameters may come in any order; one that is not known means nothing.
    package init(parsing text: String) throws(SASError) {
        guard let rest = Substring(text).after(Self.prefix), rest.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw .notAToken
        }
        var fields: [String: String] = [:]
        for pair in rest.utf8.split(separator: UInt8(ascii: "&")) {
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let key = Self.known.first(where: { $0.utf8.elementsEqual(parts[0]) }) else { continue }
            guard parts.count == 2 else { throw .malformed(key) }
            guard fields.updateValue(String(Substring(parts[1])), forKey: key) == nil else { throw .duplicate(key) }
        }
        func field(_ key: String) throws(SASError) -> String {
            guard let value = fields[key], !value.isEmpty else { throw .missing(key) }
            return value
        }
        writtenResource = try field("sr")
        guard PercentCoding.decode(writtenResource) != nil else { throw .malformed("sr") }
        writtenExpiry = try field("se")
        guard writtenExpiry.utf8.allSatisfy(ASCII.isDigit), let expiry = Int64(writtenExpiry) else { throw .malformed("se") }
        self.expiry = expiry
        // A plus is a plus here: some clients leave the Base64 as it is.
        guard let base64 = PercentCoding.decode(try field("sig")), let signature = Base64.decode(base64), signature.count == 32 else {
            throw .malformed("sig")
        }
        self.signature = signature
        guard let policy = PercentCoding.decode(fields["skn"] ?? "") else { throw .malformed("skn") }
        self.policy = policy.isEmpty ? nil : policy
    }

    private static let known = ["sr", "sig", "se", "skn"]

    /// Whether this key made the signature: over `sr` as transmitted, else over the usual encodings of what it says, with hexadecimal
    /// digits of either case. Takes constant time for a given length.
    package func verify(key: SymmetricKey) -> Bool {
        if isSigned(writtenResource, by: key) { return true }
        guard let resource = PercentCoding.decode(writtenResource) else { return false }
        let upper = PercentCoding.encode(resource, leaving: .unreserved)
        return isSigned(upper, by: key) || isSigned(Self.lowercasingEscapes(of: upper), by: key)
    }

    private func isSigned(_ resource: String, by key: SymmetricKey) -> Bool {
        equalInConstantTime(key.authenticate("\(resource)\n\(writtenExpiry)".utf8), signature)
    }

    private static func lowercasingEscapes(of text: String) -> String {
        var codes = Array(text.utf8), digits = 0
        for index in codes.indices {
            if codes[index] == UInt8(ascii: "%") {
                digits = 2
            } else if digits > 0 {
                codes[index] = ASCII.lowercased(codes[index])
                digits -= 1
            }
        }
        return String(decoding: codes, as: UTF8.self)
    }

    /// Whether the token's time is over, allowing for clocks that differ.
    /// - Parameter now: seconds since 1970 UTC.
    package func isExpired(now: Int64, toleranceSeconds: Int64 = SASToken.toleranceSeconds) -> Bool {
        let (end, overflow) = expiry.addingReportingOverflow(toleranceSeconds)
        return !overflow && now > end
    }

    /// Whether the token's resource is the target or a prefix of it by whole segments. Hosts are compared without case, the rest with it.
    /// What the token says is decoded once, and if that does not fit, twice: some clients encode ids before they encode the whole.
    /// - Parameters:
    ///   - host: a name that the hub answers to, without a port.
    ///   - path: what follows the host, not encoded: `devices/{deviceId}` for one; empty for the hub itself.
    package func covers(host: String, path: String) -> Bool {
        guard let once = PercentCoding.decode(writtenResource) else { return false }
        if Self.covers(once, host: host, path: path) { return true }
        guard let twice = PercentCoding.decode(once), twice != once else { return false }
        return Self.covers(twice, host: host, path: path)
    }

    /// Whether the token is good for all that this device or module does.
    package func covers(host: String, client: ClientIdentity) -> Bool { covers(host: host, path: client.path) }

    /// Whether the token's resource covers `{host}` or `{host}/{path}`, neither part encoded.
    package func covers(resource: String) -> Bool {
        let (host, path) = Substring(resource).level()
        return covers(host: String(host), path: String(path))
    }

    /// Whether the token is good for the path at a service of these names, none with a port. Some clients sign `host:8443`, which is
    /// the same (service-rest 2).
    package func covers(hosts: [String], path: String) -> Bool {
        if hosts.contains(where: { covers(host: $0, path: path) }) { return true }
        guard var resource = PercentCoding.decode(writtenResource) else { return false }
        if !resource.utf8.contains(UInt8(ascii: "/")), let again = PercentCoding.decode(resource) { resource = again }
        let first = String(resource.prefix { $0 != "/" })
        guard let place = HostPort(parsing: first), place.port != nil, hosts.contains(where: { ASCII.equalIgnoringCase($0, place.host) })
        else { return false }
        return covers(host: first, path: path)
    }

    private static func covers(_ resource: String, host: String, path: String) -> Bool {
        var said = resource.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        if said.count > 1, said.last?.isEmpty == true { said.removeLast() }  // one trailing slash is tolerated
        guard let first = said.first, !first.isEmpty, ASCII.equalIgnoringCase(String(Substring(first)), host) else { return false }
        let target = path.utf8.split(separator: UInt8(ascii: "/"))
        return said.count - 1 <= target.count && zip(said.dropFirst(), target).allSatisfy { $0.elementsEqual($1) }
    }

    /// The text of a new token.
    /// - Parameters:
    ///   - resource: not encoded: `{host}`, `{host}/devices/{deviceId}` and so on; the host without a port.
    ///   - expiry: seconds since 1970 UTC.
    ///   - policy: the shared access policy that the key belongs to; nil for an identity's own key.
    package static func make(resource: String, key: SymmetricKey, expiry: Int64, policy: String? = nil) -> String {
        let written = PercentCoding.encode(resource, leaving: .unreserved)
        let signature = Base64.encode(key.authenticate("\(written)\n\(expiry)".utf8))
        let token = "\(prefix)sr=\(written)&sig=\(PercentCoding.encode(signature, leaving: .unreserved))&se=\(expiry)"
        return policy.map { "\(token)&skn=\(PercentCoding.encode($0, leaving: .unreserved))" } ?? token
    }

    package var description: String { "SASToken(\(writtenResource), expiry: \(expiry), policy: \(policy ?? "none"))" }
    package var customMirror: Mirror { Mirror(self, children: ["writtenResource": writtenResource, "expiry": expiry]) }
}
