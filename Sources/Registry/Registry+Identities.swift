import Store
import Wire

extension Registry {
    static let disabledCounter = "devices.disabled"
    private static let generationCounter = "generation"
    private static let etagCounter = "etag"
    private static let longestReason = 128

    /// PUT of a device or module (service-rest 5.2, 6).
    static func put(
        _ name: ClientIdentity, _ request: IdentityRequest, _ condition: IfMatch, in transaction: borrowing WriteTransaction,
        now: Timestamp
    ) throws(RegistryError) -> RegistryOutcome {
        if name.moduleID != nil { _ = try require(try deviceName(name.deviceID), in: transaction) }
        let existing = try find(name, in: transaction)
        switch (existing, condition) {
        case (_?, .absent): throw name.moduleID == nil ? .deviceAlreadyExists(name.deviceID) : .moduleAlreadyExists(name)
        case (nil, .any), (nil, .etag): throw name.moduleID == nil ? .deviceNotFound(name.deviceID) : .moduleNotFound(name)
        case (let existing?, _): try condition.check(existing.etag)
        case (nil, .absent): break
        }
        return try replace(existing, name, request, in: transaction, now: now)
    }

    /// Writes the identity, after every condition has been met.
    static func replace(
        _ existing: Identity?, _ name: ClientIdentity, _ request: IdentityRequest, in transaction: borrowing WriteTransaction,
        now: Timestamp
    ) throws(RegistryError) -> RegistryOutcome {
        if let reason = request.statusReason, reason.unicodeScalars.count > longestReason {
            throw .argumentInvalid("statusReason is longer than \(longestReason) characters")
        }
        let isModule = name.moduleID != nil
        if isModule, existing == nil { try checkRoom(name, in: transaction) }
        let authentication = try (request.authentication ?? AuthenticationRequest()).resolved()
        let status = isModule ? .enabled : request.status
        let generation: String
        if let existing { generation = existing.generationID } else { generation = try freshGeneration(in: transaction, now: now) }
        let scopes = isModule ? Scopes() : try resolveScopes(name, request, generation, in: transaction)
        var identity = Identity(
            name: name, generationID: generation, etag: try freshETag(in: transaction, now: now), status: status,
            statusReason: isModule ? nil : request.statusReason, statusUpdatedTime: existing?.statusUpdatedTime ?? .never,
            authentication: authentication, isEdge: !isModule && request.isEdge, managedBy: isModule ? request.managedBy : nil,
            deviceScope: scopes.device, parentScopes: scopes.parents)
        if let existing, existing.status != status { identity.statusUpdatedTime = now }
        var twin: Twin?
        if existing == nil {
            let none = JSONObject()
            twin = try Twin(
                tags: request.tags ?? none, desired: request.desired ?? none, reported: request.reported ?? none, now: now)
        }
        try save(identity, replacing: existing, in: transaction)
        if let twin { try save(twin, of: name, in: transaction) }
        if identity.isEdge { try createEdgeModules(of: name, in: transaction, now: now) }
        return .identity(identity, isNew: existing == nil)
    }

    /// Stores the record, keeps the counters right, and writes the log.
    private static func save(
        _ identity: Identity, replacing existing: Identity?, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) {
        let name = identity.name
        try stored { () throws(StoreError) in
            try transaction.put(name.moduleID == nil ? .devices : .modules, name.key, identity.record())
            try countDisabled(from: existing, to: identity, in: transaction)
            try countChildren(from: existing, to: identity, in: transaction)
            var aspects: Change.Aspects = []
            if existing?.status != identity.status { aspects.insert(.status) }
            if existing?.authentication != identity.authentication { aspects.insert(.authentication) }
            if existing?.isEdge != identity.isEdge || existing?.parentScopes != identity.parentScopes
                || existing?.managedBy != identity.managedBy
            {
                aspects.insert(.relations)
            }
            try transaction.log(
                Change(
                    existing == nil ? .identityCreated : .identityUpdated, device: name.deviceID, module: name.moduleID ?? "",
                    aspects: aspects))
        }
    }

    /// DELETE of a device with all that is its own, or of a module.
    static func delete(
        _ name: ClientIdentity, _ condition: IfMatch, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) {
        let existing = try require(name, in: transaction)
        try condition.check(existing.etag)
        if name.moduleID == nil { try dropMessages(of: name.deviceID, in: transaction) }
        try stored { () throws(StoreError) in
            if name.moduleID == nil {
                for table in [Table.modules, .twins, .sessions, .uploads] { try transaction.deleteAll(table, prefix: "\(name.deviceID)\0") }
                try transaction.delete(.quotas, name.deviceID)
                try countDisabled(from: existing, to: nil, in: transaction)
                try countChildren(from: existing, to: nil, in: transaction)
            }
            try transaction.delete(name.moduleID == nil ? .devices : .modules, name.key)
            try transaction.delete(.twins, name.key)
            try transaction.delete(.sessions, name.key)
            try transaction.log(Change(.identityDeleted, device: name.deviceID, module: name.moduleID ?? ""))
        }
    }

    static func setStatus(
        _ device: String, _ status: Identity.Status, _ reason: String?, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> RegistryOutcome {
        let existing = try require(try deviceName(device), in: transaction)
        if let reason, reason.unicodeScalars.count > longestReason {
            throw .argumentInvalid("statusReason is longer than \(longestReason) characters")
        }
        var identity = existing
        identity.status = status
        identity.statusReason = reason
        if existing.status != status { identity.statusUpdatedTime = now }
        guard identity != existing else { return .identity(existing, isNew: false) }
        identity.etag = try freshETag(in: transaction, now: now)
        try save(identity, replacing: existing, in: transaction)
        return .identity(identity, isNew: false)
    }

    static func rotateKey(
        _ name: ClientIdentity, _ slot: KeySlot, _ condition: IfMatch, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> RegistryOutcome {
        let existing = try require(name, in: transaction)
        try condition.check(existing.etag)
        guard case .sas(let primary, let secondary) = existing.authentication else {
            throw .invalidOperation("\(name) has no keys: its authentication is \(existing.authentication.type)")
        }
        var identity = existing
        identity.authentication = try slot.turn(primary, secondary)
        identity.etag = try freshETag(in: transaction, now: now)
        try save(identity, replacing: existing, in: transaction)
        return .identity(identity, isNew: false)
    }

    // MARK: - Parts

    private static func checkRoom(_ name: ClientIdentity, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        var count = 0
        try stored { () throws(StoreError) in
            try transaction.scan(.modules, prefix: "\(name.deviceID)\0") { _, _ throws(StoreError) in
                count += 1
                return true
            }
        }
        guard count < mostModules else { throw .tooManyModules(device: name.deviceID) }
    }

    /// `$edgeAgent` and `$edgeHub`, without credentials until the runtime writes keys (edge-gateway 10).
    private static func createEdgeModules(
        of device: ClientIdentity, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        for id in ["$edgeAgent", "$edgeHub"] {
            guard let name = ClientIdentity(deviceID: device.deviceID, moduleID: id) else { continue }
            try createEdgeModule(name, in: transaction, now: now)
        }
    }

    /// A module that an Edge device's runtime looks after; one that is there stays as it is.
    static func createEdgeModule(_ name: ClientIdentity, in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) {
        guard try find(name, in: transaction) == nil else { return }
        var request = IdentityRequest()
        request.authentication = AuthenticationRequest(AuthenticationRequest.Kind.none)
        request.managedBy = "iotEdge"
        _ = try replace(nil, name, request, in: transaction, now: now)
    }

    /// Digits that count 100 ns steps and are never given out twice.
    private static func freshGeneration(in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) -> String {
        String(try advance(generationCounter, to: now.sinceYearOne, in: transaction))
    }

    /// Base64 of a decimal number that only grows.
    static func freshETag(in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) -> String {
        Base64.encode(String(try advance(etagCounter, to: UInt64(clamping: now.seconds), in: transaction)).utf8)
    }

    private static func advance(
        _ counter: String, to floor: UInt64, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) -> UInt64 {
        try stored { () throws(StoreError) in
            let next = max(floor, try transaction.counter(counter) &+ 1)
            try transaction.setCounter(counter, next)
            return next
        }
    }

    private static func countDisabled(
        from old: Identity?, to new: Identity?, in transaction: borrowing WriteTransaction
    ) throws(StoreError) {
        let was = old?.status == .disabled, becomes = new?.status == .disabled
        guard was != becomes else { return }
        let count = try transaction.counter(disabledCounter)
        try transaction.setCounter(disabledCounter, becomes ? count &+ 1 : count - min(1, count))
    }
}

extension KeySlot {
    /// The two keys after a rotation.
    func turn(_ primary: SymmetricKey, _ secondary: SymmetricKey) throws(RegistryError) -> Authentication {
        switch self {
        case .primary: .sas(primary: try AuthenticationRequest.fresh(), secondary: secondary)
        case .secondary: .sas(primary: primary, secondary: try AuthenticationRequest.fresh())
        case .swap: .sas(primary: secondary, secondary: primary)
        }
    }
}
