import Bytes
import Store
import Wire

// The twin of an identity lives and dies with it.

extension Registry {
    /// The twin with its identity, from one snapshot; `deviceNotFound`, `moduleNotFound`.
    package func twin(_ name: ClientIdentity) throws(RegistryError) -> TwinDocument {
        try read { transaction throws(RegistryError) in try Self.twinDocument(name, in: transaction) }
    }

    /// What the device or module is shown of its own twin (mqtt-device 12.1).
    package func deviceTwin(_ name: ClientIdentity) throws(RegistryError) -> JSONValue {
        try read { transaction throws(RegistryError) in try Self.twin(name, in: transaction).deviceDocument }
    }

    /// What a device is to be told of a change of its desired properties; nil when the change was none, or lies so far back that
    /// nobody keeps it any more: then let the device read its twin anew.
    package func desiredNotice(of change: Change) throws(RegistryError) -> DesiredNotice? {
        guard change.kind == .twinUpdated, change.aspects.contains(.desired) else { return nil }
        return try read { transaction throws(RegistryError) in
            try Self.stored { () throws(StoreError) in try transaction.notice(of: change.sequence) }.flatMap { DesiredNotice(record: $0) }
        }
    }

    /// All of the desired properties, as a device is told of a replacement: for one that may have missed changes.
    package func desiredNotice(of name: ClientIdentity) throws(RegistryError) -> DesiredNotice {
        let desired = try read { transaction throws(RegistryError) in try Self.twin(name, in: transaction).desired }
        return DesiredNotice(version: desired.version, members: desired.content)
    }

    // MARK: - Inside a transaction

    static func twin(_ name: ClientIdentity, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> Twin {
        let twin = try stored { () throws(StoreError) in
            try transaction.lend(.twins, name.key) { bytes throws(StoreError) in try decode(twin: bytes) }
        }
        if let twin { return twin }
        _ = try require(name, in: transaction)
        throw .store(.damaged(path: "registry", reason: "a twin is missing"))
    }

    static func decode(twin bytes: RawSpan) throws(StoreError) -> Twin {
        guard let twin = Twin(record: bytes) else { throw .damaged(path: "registry", reason: "a twin's record") }
        return twin
    }

    static func twinDocument(
        _ name: ClientIdentity, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> TwinDocument {
        let identity = try require(name, in: transaction)
        let device = name.moduleID == nil ? identity : try require(try deviceName(name.deviceID), in: transaction)
        return TwinDocument(identity: identity, device: device, twin: try twin(name, in: transaction))
    }

    /// Stores a twin that was checked before.
    static func save(_ twin: Twin, of name: ClientIdentity, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        try stored { () throws(StoreError) in try transaction.put(.twins, name.key, twin.record) }
    }

    /// PATCH and PUT of a twin (service-rest 9.2).
    static func changeTwin(
        _ name: ClientIdentity, _ change: TwinChange, _ condition: IfMatch, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        var twin = try twin(name, in: transaction)
        try condition.check(twin.etag)
        let notice = try twin.apply(change, now: now)
        guard !change.isEmpty else { return }
        try save(twin, of: name, in: transaction)
        var aspects: Change.Aspects = []
        if change.tags != nil { aspects.insert(.tags) }
        if change.desired != nil { aspects.insert(.desired) }
        _ = try stored { () throws(StoreError) in
            try transaction.log(
                Change(.twinUpdated, device: name.deviceID, module: name.moduleID ?? "", aspects: aspects), notice: notice?.record)
        }
    }

    /// A device's patch of its reported properties; tells the section's new version. Not in the change log: the hub alone brings them.
    static func report(
        _ name: ClientIdentity, _ patch: JSONObject, ifVersion expected: Int64?, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> Int64 {
        var twin = try twin(name, in: transaction)
        try twin.report(patch, ifVersion: expected, now: now)
        try save(twin, of: name, in: transaction)
        return twin.reported.version
    }

    /// Notes the model that a device announces; writes nothing when it is the same.
    static func setModel(_ name: ClientIdentity, _ model: String, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        guard model.utf8.count <= 2048 else { throw .argumentInvalid("a model's id is longer than 2048 bytes") }
        var twin = try twin(name, in: transaction)
        guard twin.modelID != model else { return }
        twin.modelID = model
        try save(twin, of: name, in: transaction)
    }
}
