import Wire

/// What the registry keeps to prove an identity: exactly one of these (attestation 1).
package enum Authentication: Equatable, Sendable {
    /// Tokens signed with either key.
    case sas(primary: SymmetricKey, secondary: SymmetricKey)
    /// Client certificates by their SHA-1 (40) or SHA-256 (64 hexadecimal digits); at least one.
    case selfSigned(primary: String?, secondary: String?)
    /// Client certificates under a registered authority.
    case certificateAuthority
    /// It cannot prove itself.
    case none

    /// The word in `authentication.type`.
    package var type: String {
        switch self {
        case .sas: "sas"
        case .selfSigned: "selfSigned"
        case .certificateAuthority: "certificateAuthority"
        case .none: "none"
        }
    }

    /// The document with both of its parts, unused members null. Contains the keys.
    package var json: JSONValue {
        var keys: (JSONValue, JSONValue) = (.null, .null)
        var thumbprints = keys
        switch self {
        case .sas(let primary, let secondary): keys = (.string(primary.base64), .string(secondary.base64))
        case .selfSigned(let primary, let secondary):
            thumbprints = (primary.map { .string($0) } ?? .null, secondary.map { .string($0) } ?? .null)
        case .certificateAuthority, .none: break
        }
        return [
            "symmetricKey": ["primaryKey": keys.0, "secondaryKey": keys.1],
            "x509Thumbprint": ["primaryThumbprint": thumbprints.0, "secondaryThumbprint": thumbprints.1],
            "type": .string(type),
        ]
    }

    /// Whether the leaf that a device showed is the one of either slot.
    ///
    /// - Parameter sha1: of the certificate's DER, in hexadecimal digits of either case; `sha256` likewise.
    package func accepts(sha1: String, sha256: String) -> Bool {
        guard case .selfSigned(let primary, let secondary) = self else { return false }
        return [primary, secondary].contains { stored in
            guard let stored else { return false }
            return ASCII.equalIgnoringCase(stored, stored.utf8.count == 40 ? sha1 : sha256)
        }
    }
}

/// What a writer wants an identity's authentication to be; what is missing is generated.
package struct AuthenticationRequest: Equatable, Sendable {
    package enum Kind: String, Sendable { case sas, selfSigned, certificateAuthority, none }

    /// Nil: a thumbprint means `selfSigned`, anything else `sas`.
    package var kind: Kind?
    /// Base64 of 16 to 64 bytes.
    package var primaryKey, secondaryKey: String?
    /// 40 or 64 hexadecimal digits.
    package var primaryThumbprint, secondaryThumbprint: String?

    package init(
        _ kind: Kind? = nil, primaryKey: String? = nil, secondaryKey: String? = nil, primaryThumbprint: String? = nil,
        secondaryThumbprint: String? = nil
    ) {
        self.kind = kind
        self.primaryKey = primaryKey
        self.secondaryKey = secondaryKey
        self.primaryThumbprint = primaryThumbprint
        self.secondaryThumbprint = secondaryThumbprint
    }

    /// Reads the member `authentication` of a request.
    package init(json: JSONValue) throws(RegistryError) {
        guard json.object != nil else { throw .argumentInvalid("authentication is not an object") }
        if let type = try json.optionalText("type") {
            guard let kind = Kind(rawValue: type) else { throw .argumentInvalid("authentication.type is not one that the hub knows") }
            self.kind = kind
        }
        if let keys = json["symmetricKey"], !keys.isNull {
            primaryKey = try keys.optionalText("primaryKey")
            secondaryKey = try keys.optionalText("secondaryKey")
        }
        if let thumbprints = json["x509Thumbprint"], !thumbprints.isNull {
            primaryThumbprint = try thumbprints.optionalText("primaryThumbprint")
            secondaryThumbprint = try thumbprints.optionalText("secondaryThumbprint")
        }
    }

    func resolved() throws(RegistryError) -> Authentication {
        switch kind ?? (primaryThumbprint ?? secondaryThumbprint == nil ? .sas : .selfSigned) {
        case .sas:
            return .sas(primary: try Self.key(primaryKey, "primaryKey"), secondary: try Self.key(secondaryKey, "secondaryKey"))
        case .selfSigned:
            let primary = try Self.thumbprint(primaryThumbprint), secondary = try Self.thumbprint(secondaryThumbprint)
            guard primary ?? secondary != nil else { throw .argumentInvalid("selfSigned needs a thumbprint") }
            return .selfSigned(primary: primary, secondary: secondary)
        case .certificateAuthority: return .certificateAuthority
        case .none: return .none
        }
    }

    private static func key(_ text: String?, _ name: String) throws(RegistryError) -> SymmetricKey {
        guard let text, !text.isEmpty else { return try fresh() }
        guard let key = SymmetricKey(base64: text) else { throw .argumentInvalid("\(name) is not Base64 of 16 to 64 bytes") }
        return key
    }

    static func fresh() throws(RegistryError) -> SymmetricKey {
        guard let key = SymmetricKey.random() else { throw .store(.failed(path: "", operation: "random", reason: "no entropy")) }
        return key
    }

    private static func thumbprint(_ text: String?) throws(RegistryError) -> String? {
        guard let text, !text.isEmpty else { return nil }
        guard text.utf8.count == 40 || text.utf8.count == 64, text.utf8.allSatisfy({ ASCII.hexValue($0) != nil }) else {
            throw .argumentInvalid("a thumbprint has 40 or 64 hexadecimal digits and nothing else")
        }
        return text
    }
}

extension JSONValue {
    /// A member's text; nil when it is absent or null.
    func optionalText(_ key: String) throws(RegistryError) -> String? {
        switch self[key] {
        case nil, .null?: return nil
        case .string(let text)?: return text
        default: throw .argumentInvalid("\(key) is not a string")
        }
    }

    package func optionalBool(_ key: String) throws(RegistryError) -> Bool? {
        switch self[key] {
        case nil, .null?: return nil
        case .bool(let value)?: return value
        default: throw .argumentInvalid("\(key) is not true or false")
        }
    }
}
