import Bytes
import TLS
import Wire

/// How devices of an enrollment prove themselves (dps 9, 14.3).
package enum Attestation: Sendable {
    /// For a group, the keys that devices' own ones are derived from.
    case symmetricKey(primary: SymmetricKey, secondary: SymmetricKey)
    case x509(X509Attestation)
    /// Kept and listed; devices cannot register by it. Base64 both.
    case tpm(endorsementKey: String, storageRootKey: String?)

    package var type: String {
        switch self {
        case .symmetricKey: "symmetricKey"
        case .x509: "x509"
        case .tpm: "tpm"
        }
    }

    /// An AttestationMechanism.
    ///
    /// - Parameter secrets: with symmetric keys and the certificates themselves: for the store.
    func json(secrets: Secrets) -> JSONValue {
        let details: JSONValue
        switch self {
        case .symmetricKey(let primary, let secondary):
            details =
                secrets == .none ? [:] : ["primaryKey": .string(primary.base64), "secondaryKey": .string(secondary.base64)]
        case .x509(let certificates): details = certificates.json(bodies: secrets == .stored)
        case .tpm(let endorsement, let root):
            details = .object(of: ["endorsementKey": .string(endorsement), "storageRootKey": root.map { .string($0) }])
        }
        var json: JSONValue = ["type": .string(type)]
        json[type] = details
        return json
    }

    /// How much a document shows.
    package enum Secrets: Sendable {
        case none
        /// Symmetric keys.
        case keys
        /// Keys, and certificates' bodies too: the record.
        case stored
    }

    /// Reads the member `attestation` of a request or record.
    ///
    /// - Parameter existing: what keeps its secrets where the request has none (dps 14.3).
    init(json: JSONValue?, kind: EnrollmentKind, existing: Attestation?) throws(EnrollmentError) {
        guard let json, json.object != nil else { throw .invalid("attestation is missing or no object") }
        let type = try json.text("type") ?? ["symmetricKey", "x509", "tpm"].first { json[$0]?.object != nil } ?? ""
        switch type.lowercased() {
        case "symmetrickey":
            var old: (SymmetricKey?, SymmetricKey?)
            if case .symmetricKey(let primary, let secondary)? = existing { old = (primary, secondary) }
            let keys = try json.member("symmetricKey", as: "an object") { $0.object } ?? JSONObject()
            self = .symmetricKey(
                primary: try Self.key(.object(keys), "primaryKey", old.0), secondary: try Self.key(.object(keys), "secondaryKey", old.1))
        case "x509":
            var old: X509Attestation?
            if case .x509(let certificates)? = existing { old = certificates }
            self = .x509(try X509Attestation(json: json["x509"] ?? .null, kind: kind, existing: old))
        case "tpm":
            guard kind == .individual else { throw .invalid("an enrollment group cannot attest by tpm") }
            guard let key = try json["tpm"]?.text("endorsementKey"), Base64.decode(key)?.isEmpty == false else {
                throw .invalid("attestation.tpm.endorsementKey is missing or no Base64")
            }
            self = .tpm(endorsementKey: key, storageRootKey: try json["tpm"]?.text("storageRootKey"))
        default: throw .invalid("attestation.type is one of symmetricKey, x509, tpm")
        }
    }

    private static func key(_ keys: JSONValue, _ name: String, _ existing: SymmetricKey?) throws(EnrollmentError) -> SymmetricKey {
        guard let text = try keys.text(name), !text.isEmpty else {
            guard let key = existing ?? SymmetricKey.random(count: 64) else { throw .noEntropy }
            return key
        }
        guard let key = SymmetricKey(base64: text) else { throw .invalid("\(name) is not Base64 of 16 to 64 bytes") }
        return key
    }
}

extension EnrollmentError {
    static let noEntropy = Self.store(.failed(path: "", operation: "random", reason: "no entropy"))
}

extension SymmetricKey {
    /// The key of one device of a group (dps 5.3).
    ///
    /// - Parameter registrationID: as the device derives it.
    package func derived(for registrationID: String) -> SymmetricKey? {
        SymmetricKey(authenticate(registrationID.utf8).span.bytes)
    }
}

extension JSONValue {
    /// A member that is `what`; nil when it is absent or null.
    func member<Value>(_ key: String, as what: String, _ read: (JSONValue) -> Value?) throws(EnrollmentError) -> Value? {
        guard let value = self[key], !value.isNull else { return nil }
        guard let read = read(value) else { throw .invalid("\(key) is not \(what)") }
        return read
    }

    func text(_ key: String) throws(EnrollmentError) -> String? { try member(key, as: "a string") { $0.string } }
    func flag(_ key: String) throws(EnrollmentError) -> Bool? { try member(key, as: "true or false") { $0.bool } }
    func object(_ key: String) throws(EnrollmentError) -> JSONValue? {
        try member(key, as: "an object") { value in value.object.map { _ in value } }  // nil would be a JSON null here
    }
}
