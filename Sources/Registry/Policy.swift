import Bytes
import Store
import Wire

/// What a policy allows (service-rest 2.1).
package struct Rights: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let registryRead = Rights(rawValue: 1)
    package static let registryWrite = Rights(rawValue: 2)
    package static let serviceConnect = Rights(rawValue: 4)
    package static let deviceConnect = Rights(rawValue: 8)
    package static let all: Rights = [.registryRead, .registryWrite, .serviceConnect, .deviceConnect]

    private static let names: [(Rights, String)] = [
        (.registryRead, "RegistryRead"), (.registryWrite, "RegistryWrite"), (.serviceConnect, "ServiceConnect"),
        (.deviceConnect, "DeviceConnect"),
    ]

    /// Names with commas or white space between them, in any case; RegistryWrite brings RegistryRead.
    package init(parsing text: String) throws(RegistryError) {
        var rights: Rights = []
        for word in text.split(whereSeparator: { $0 == "," || $0 == " " || $0 == ";" }) {
            guard let (right, _) = Self.names.first(where: { ASCII.equalIgnoringCase($0.1, String(word)) }) else {
                throw .argumentInvalid("the rights are RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect")
            }
            rights.insert(right)
        }
        guard !rights.isEmpty else { throw .argumentInvalid("a policy needs a right") }
        self = rights.effective
    }

    /// With what is included.
    package var effective: Rights { contains(.registryWrite) ? union(.registryRead) : self }
}

extension Rights: CustomStringConvertible {
    /// `RegistryRead, RegistryWrite` and so on.
    package var description: String { Self.names.filter { contains($0.0) }.map(\.1).joined(separator: ", ") }
}

/// A shared access policy: a name, rights, and two keys of equal power.
package struct Policy: Equatable, Sendable {
    package let name: String
    package internal(set) var rights: Rights
    package internal(set) var primaryKey: SymmetricKey
    package internal(set) var secondaryKey: SymmetricKey

    /// `{"keyName":…,"primaryKey":…,"secondaryKey":…,"rights":"RegistryRead, …"}`. Contains the keys.
    package var json: JSONValue {
        [
            "keyName": .string(name), "primaryKey": .string(primaryKey.base64), "secondaryKey": .string(secondaryKey.base64),
            "rights": .string(rights.description),
        ]
    }

    init(name: String, rights: Rights, primaryKey: SymmetricKey, secondaryKey: SymmetricKey) {
        self.name = name
        self.rights = rights.effective
        self.primaryKey = primaryKey
        self.secondaryKey = secondaryKey
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let name = json["keyName"]?.string,
            let primary = json["primaryKey"]?.string.flatMap({ SymmetricKey(base64: $0) }),
            let secondary = json["secondaryKey"]?.string.flatMap({ SymmetricKey(base64: $0) }),
            let rights = json["rights"]?.string.flatMap({ try? Rights(parsing: $0) })
        else { return nil }
        self.init(name: name, rights: rights, primaryKey: primary, secondaryKey: secondary)
    }
}

extension Registry {
    package func policy(_ name: String) throws(RegistryError) -> Policy {
        try read { transaction throws(RegistryError) in try Self.require(policy: name, in: transaction) }
    }

    /// All policies, in the order of their names.
    package func policies() throws(RegistryError) -> [Policy] {
        try read { transaction throws(RegistryError) in try Self.policies(in: transaction) }
    }

    static func policies(in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> [Policy] {
        try stored { () throws(StoreError) in
            try transaction.collect(.policies) { _, value throws(StoreError) in try decode(policy: value) }
        }
    }

    static func find(policy name: String, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> Policy? {
        try stored { () throws(StoreError) in
            try transaction.lend(.policies, name) { bytes throws(StoreError) in
                try policiesRead.value(of: bytes) { bytes throws(StoreError) in try decode(policy: bytes) }
            }
        }
    }

    private static let policiesRead = RecordMemo<Policy>()

    private static func decode(policy bytes: RawSpan) throws(StoreError) -> Policy {
        guard let policy = Policy(record: bytes) else { throw .damaged(path: "registry", reason: "a policy's record") }
        return policy
    }

    private static func require(
        policy name: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> Policy {
        guard let policy = try find(policy: name, in: transaction) else { throw .policyNotFound(name) }
        return policy
    }

    static func createPolicy(_ name: String, _ rights: Rights, in transaction: borrowing WriteTransaction) throws(RegistryError) -> Policy {
        guard Identifier.isValidPolicyName(name) else {
            throw .argumentInvalid("a policy's name has 1 to 64 letters, digits, hyphens, dots and underscores")
        }
        guard !rights.isEmpty else { throw .argumentInvalid("a policy needs a right") }
        guard try find(policy: name, in: transaction) == nil else { throw .policyAlreadyExists(name) }
        let policy = Policy(
            name: name, rights: rights, primaryKey: try AuthenticationRequest.fresh(), secondaryKey: try AuthenticationRequest.fresh())
        try save(policy, .policyCreated, [.rights, .authentication], in: transaction)
        return policy
    }

    static func setRights(_ name: String, _ rights: Rights, in transaction: borrowing WriteTransaction) throws(RegistryError) -> Policy {
        var policy = try require(policy: name, in: transaction)
        guard !rights.isEmpty else { throw .argumentInvalid("a policy needs a right") }
        if !rights.contains(.registryWrite) { try checkNotLast(policy, in: transaction) }
        policy.rights = rights.effective
        try save(policy, .policyUpdated, .rights, in: transaction)
        return policy
    }

    static func rotatePolicy(_ name: String, _ slot: KeySlot, in transaction: borrowing WriteTransaction) throws(RegistryError) -> Policy {
        var policy = try require(policy: name, in: transaction)
        if case .sas(let primary, let secondary) = try slot.turn(policy.primaryKey, policy.secondaryKey) {
            (policy.primaryKey, policy.secondaryKey) = (primary, secondary)
        }
        try save(policy, .policyUpdated, .authentication, in: transaction)
        return policy
    }

    static func deletePolicy(_ name: String, force: Bool, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        let policy = try require(policy: name, in: transaction)
        if !force { try checkNotLast(policy, in: transaction) }
        try stored { () throws(StoreError) in
            try transaction.delete(.policies, name)
            try transaction.log(Change(.policyDeleted, name: name))
        }
    }

    /// Without a policy that may write, nobody could administer the hub over the network any more.
    private static func checkNotLast(_ policy: Policy, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        guard policy.rights.contains(.registryWrite) else { return }
        let others = try policies(in: transaction).contains { $0.name != policy.name && $0.rights.contains(.registryWrite) }
        guard others else { throw .invalidOperation("\(policy.name) is the last policy with RegistryWrite") }
    }

    private static func save(
        _ policy: Policy, _ kind: Change.Kind, _ aspects: Change.Aspects, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) {
        try stored { () throws(StoreError) in
            try transaction.put(.policies, policy.name, policy.json.bytes())
            try transaction.log(Change(kind, name: policy.name, aspects: aspects))
        }
    }
}
