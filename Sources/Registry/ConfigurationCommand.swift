import Bytes
import Store
import Wire

/// What changes configurations, or twins because of them.
package enum ConfigurationCommand: Sendable {
    /// Creates without a condition, else changes what may change.
    case put(TwinConfiguration, IfMatch)
    case delete(String, IfMatch)
    /// Brings twins to what the set says of them.
    case configure([ClientIdentity], ConfigurationSet)
    /// What was counted of the configuration with this number.
    case measured(String, number: UInt64, TwinConfiguration.Results)
    /// Forgets configurations that were removed, and stand in no twin any more.
    case bury([TwinConfiguration])
    /// Writes into the module twins of an Edge device, or the twin of a device, at once.
    case apply(AppliedContent, device: String)
}

extension Registry {
    /// Configurations that there may be (service-rest 13).
    package static let mostConfigurations = 100

    static func apply(
        _ command: ConfigurationCommand, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> RegistryOutcome {
        switch command {
        case .put(let request, let condition):
            return .configuration(try put(request, condition, in: transaction, now: now))
        case .delete(let id, let condition): try deleteConfiguration(id, condition, in: transaction)
        case .configure(let names, let set):
            for name in names { try configure(name, set, in: transaction, now: now) }
        case .measured(let id, let number, let results):
            guard var found = try findConfiguration(id, in: transaction), found.number == number, found.results != results else { break }
            found.results = results
            try save(found, in: transaction)
        case .bury(let removed):
            try stored { () throws(StoreError) in
                for configuration in removed { try transaction.delete(.configurations, configuration.graveKey) }
            }
        case .apply(let content, let device): try apply(content, to: device, in: transaction, now: now)
        }
        return .done
    }

    private static func put(
        _ request: TwinConfiguration, _ condition: IfMatch, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> TwinConfiguration {
        let existing = try findConfiguration(request.id, in: transaction)
        var configuration = request
        switch (existing, condition) {
        case (_?, .absent): throw .configurationAlreadyExists(request.id)
        case (nil, .any), (nil, .etag): throw .configurationNotFound(request.id)
        case (let existing?, _):
            try condition.check(existing.etag)
            configuration = try existing.changed(to: request)
        case (nil, .absent):
            guard try configurations(in: transaction).live.count < mostConfigurations else { throw .tooManyConfigurations }
            configuration.createdTime = now
            configuration.number = try stored { () throws(StoreError) in
                let next = try transaction.counter("configurations") &+ 1
                try transaction.setCounter("configurations", next)
                return next
            }
        }
        configuration.updatedTime = now
        configuration.etag = try freshETag(in: transaction, now: now)
        try save(configuration, in: transaction)
        try announce(configuration.id, in: transaction)
        return configuration
    }

    /// A configuration that is removed is kept until no twin has its values any more.
    private static func deleteConfiguration(
        _ id: String, _ condition: IfMatch, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) {
        guard let existing = try findConfiguration(id, in: transaction) else { throw .configurationNotFound(id) }
        try condition.check(existing.etag)
        try stored { () throws(StoreError) in
            try transaction.delete(.configurations, id)
            try transaction.put(.configurations, existing.graveKey, existing.record)
        }
        try announce(id, in: transaction)
    }

    private static func announce(_ id: String, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        _ = try stored { () throws(StoreError) in try transaction.log(Change(.configurationUpdated, name: id)) }
    }

    private static func save(_ configuration: TwinConfiguration, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        try stored { () throws(StoreError) in try transaction.put(.configurations, configuration.id, configuration.record) }
    }

    // MARK: - Reading

    private static func decode(configuration bytes: RawSpan) throws(StoreError) -> TwinConfiguration {
        guard let configuration = TwinConfiguration(record: bytes) else {
            throw .damaged(path: "registry", reason: "a configuration's record")
        }
        return configuration
    }

    static func findConfiguration(
        _ id: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> TwinConfiguration? {
        guard TwinConfiguration.isValidID(id) else { return nil }
        return try stored { () throws(StoreError) in
            try transaction.lend(.configurations, id) { bytes throws(StoreError) in try decode(configuration: bytes) }
        }
    }

    static func configurations(in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> ConfigurationSet {
        var live: [TwinConfiguration] = [], removed: [TwinConfiguration] = []
        try stored { () throws(StoreError) in
            try transaction.scan(.configurations) { key, value throws(StoreError) in
                let configuration = try decode(configuration: value)
                if key.firstIndex(of: 0) == nil { live.append(configuration) } else { removed.append(configuration) }
                return true
            }
        }
        return ConfigurationSet(live: live, removed: removed)
    }

    /// The configuration, or `configurationNotFound`.
    package func configuration(_ id: String) throws(RegistryError) -> TwinConfiguration {
        let found = try read { transaction throws(RegistryError) in try Self.findConfiguration(id, in: transaction) }
        guard let found else { throw .configurationNotFound(id) }
        return found
    }

    /// All of them.
    package func configurations() throws(RegistryError) -> ConfigurationSet {
        try read { transaction throws(RegistryError) in try Self.configurations(in: transaction) }
    }
}

extension TwinConfiguration {
    /// The key of one that was removed; no id contains NUL.
    var graveKey: String { "\(id)\0\(number)" }
}
