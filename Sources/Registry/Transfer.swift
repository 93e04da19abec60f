import Store

extension Registry {
    /// Whether an import or export job has this id.
    static func isTransfer(_ id: String, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> Bool {
        try stored { () throws(StoreError) in try transaction.contains(.transfers, id) }
    }
}

extension Registry {
    /// Configurations that there may be (service-rest 13).
    package static let mostConfigurations = 100
}

extension Registry {
    /// Whether an import or export job has this id.
    package func hasTransfer(_ id: String) throws(RegistryError) -> Bool {
        try read { transaction throws(RegistryError) in try Self.isTransfer(id, in: transaction) }
    }
}
