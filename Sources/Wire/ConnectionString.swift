/// Why a text is no connection string. Names keys, never values.
package enum ConnectionStringError: Error, Equatable, CustomStringConvertible {
    case missing(String)
    case duplicate(String)
    case malformed(String)
    /// A key that nothing here knows; nil when what stands there does not look like a key and might be a secret.
    case unknown(String?)
    /// Two keys that exclude each other.
    case conflict(String, String)

    package var description: String {
        switch self {
        case .missing(let key): "connection string has no \(key)"
        case .duplicate(let key): "connection string has \(key) twice"
        case .malformed(let key): "connection string has a malformed \(key)"
        case .unknown(let key?): "connection string has an unknown key \(key)"
        case .unknown(nil): "connection string has a part that is no key=value"
        case .conflict(let one, let other): "connection string has both \(one) and \(other)"
        }
    }
}

/// `HostName=…;DeviceId=…;SharedAccessKey=…` and its kin (mqtt-device 2.3). Prints without its secrets; `text` has them.
package struct ConnectionString: Equatable, Sendable, CustomStringConvertible, CustomReflectable {
    /// What proves who the holder is.
    package enum Credential: Equatable, Sendable {
        /// A key of the identity itself, or of the policy named by `SharedAccessKeyName`.
        case key(SymmetricKey)
        /// A ready-made token.
        case signature(String)
        /// A client certificate, given elsewhere.
        case x509
    }

    /// The hub: what tokens and user names say; the port, when there is one, is where its HTTPS listener is.
    package var host: HostPort
    /// Nil for a service's string.
    package var client: ClientIdentity?
    /// The shared access policy of a service's key.
    package var policy: String?
    /// Nil when the string has none: a certificate may come by other ways.
    package var credential: Credential?
    /// Whom to dial instead of the hub.
    package var gateway: HostPort?

    package init(
        host: HostPort, client: ClientIdentity? = nil, policy: String? = nil, credential: Credential? = nil, gateway: HostPort? = nil
    ) {
        self.host = host
        self.client = client
        self.policy = policy
        self.credential = credential
        self.gateway = gateway
    }

    /// The keys, in the order in which they are printed; spelt with this case.
    private enum Key: String, CaseIterable {
        case hostName = "HostName"
        case deviceID = "DeviceId"
        case moduleID = "ModuleId"
        case sharedAccessKeyName = "SharedAccessKeyName"
        case sharedAccessKey = "SharedAccessKey"
        case sharedAccessSignature = "SharedAccessSignature"
        case gatewayHostName = "GatewayHostName"
        case x509 = "x509"
    }

    /// Reads a connection string. White space around it, a semicolon at its end, and the order of its parts mean nothing.
    package init(parsing text: String) throws(ConnectionStringError) {
        var values: [Key: String] = [:]
        let semicolon = UInt8(ascii: ";")
        var codes = text.utf8[...]
        while let last = codes.last, last <= 0x20 { codes.removeLast() }
        while let first = codes.first, first <= 0x20 { codes.removeFirst() }
        if codes.last == semicolon { codes.removeLast() }
        for part in codes.split(separator: semicolon, omittingEmptySubsequences: false) where !codes.isEmpty {
            let sides = part.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(Substring(sides[0]))
            guard let key = Key(rawValue: name) else { throw .unknown(Self.looksLikeKey(name) ? name : nil) }
            guard sides.count == 2, !sides[1].isEmpty else { throw .malformed(key.rawValue) }
            guard values.updateValue(String(Substring(sides[1])), forKey: key) == nil else { throw .duplicate(key.rawValue) }
        }
        guard let hostName = values[.hostName] else { throw .missing(Key.hostName.rawValue) }
        host = try Self.place(hostName, .hostName)
        gateway = try values[.gatewayHostName].map { text throws(ConnectionStringError) in try Self.place(text, .gatewayHostName) }
        client = try Self.client(values)
        policy = values[.sharedAccessKeyName]
        credential = try Self.credential(values)
        if let policy {
            guard Identifier.isValidPolicyName(policy) else { throw .malformed(Key.sharedAccessKeyName.rawValue) }
            guard values[.x509] == nil else { throw .conflict(Key.sharedAccessKeyName.rawValue, Key.x509.rawValue) }
        }
    }

    private static func place(_ text: String, _ key: Key) throws(ConnectionStringError) -> HostPort {
        guard let place = HostPort(parsing: text) else { throw .malformed(key.rawValue) }
        return place
    }

    private static func client(_ values: [Key: String]) throws(ConnectionStringError) -> ClientIdentity? {
        guard let deviceID = values[.deviceID] else {
            guard values[.moduleID] == nil else { throw .missing(Key.deviceID.rawValue) }
            return nil
        }
        guard Identifier.isValidID(deviceID) else { throw .malformed(Key.deviceID.rawValue) }
        guard let client = ClientIdentity(deviceID: deviceID, moduleID: values[.moduleID]) else {
            throw .malformed(Key.moduleID.rawValue)
        }
        return client
    }

    private static func credential(_ values: [Key: String]) throws(ConnectionStringError) -> Credential? {
        let given = [Key.sharedAccessKey, .sharedAccessSignature, .x509].filter { values[$0] != nil }
        if given.count > 1 { throw .conflict(given[0].rawValue, given[1].rawValue) }
        if let text = values[.sharedAccessKey] {
            guard let key = SymmetricKey(base64: text) else { throw .malformed(Key.sharedAccessKey.rawValue) }
            return .key(key)
        }
        if let token = values[.sharedAccessSignature] {
            do { _ = try SASToken(parsing: token) } catch { throw .malformed(Key.sharedAccessSignature.rawValue) }
            return .signature(token)
        }
        switch values[.x509] {
        case nil: return nil
        case "true"?, "True"?: return .x509
        case "false"?, "False"?: return nil
        default: throw .malformed(Key.x509.rawValue)
        }
    }

    /// Letters only and no longer than the longest known key, lest half a secret be repeated.
    private static func looksLikeKey(_ name: String) -> Bool {
        (1...21).contains(name.utf8.count) && name.utf8.allSatisfy { ASCII.lowercased($0) &- 0x61 < 26 }
    }

    /// The whole string, secrets and all, in the order that people know.
    package var text: String {
        Key.allCases.compactMap { key in value(of: key).map { "\(key.rawValue)=\($0)" } }.joined(separator: ";")
    }

    private func value(of key: Key) -> String? {
        switch key {
        case .hostName: host.description
        case .deviceID: client?.deviceID
        case .moduleID: client?.moduleID
        case .sharedAccessKeyName: policy
        case .sharedAccessKey: if case .key(let key)? = credential { key.base64 } else { nil }
        case .sharedAccessSignature: if case .signature(let token)? = credential { token } else { nil }
        case .gatewayHostName: gateway?.description
        case .x509: credential == .x509 ? "true" : nil
        }
    }

    package var description: String {
        "ConnectionString(\([host.description, client?.clientID, policy].compactMap(\.self).joined(separator: ", ")))"
    }
    package var customMirror: Mirror { Mirror(self, children: ["host": host]) }
}
