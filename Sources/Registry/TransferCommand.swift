import Store
import Wire

/// What changes an import or export job.
package enum TransferCommand: Sendable {
    case create(Transfer)
    /// How far it is; does nothing to one that is over.
    case advance(String, Transfer.Status, progress: Int, reason: String)
    case cancel(String)
    /// Removes one that is over.
    case forget(String)
}

extension Registry {
    static func apply(
        _ command: TransferCommand, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> Transfer {
        switch command {
        case .create(let transfer):
            if let other = try transfers(in: transaction).first(where: { !$0.status.isOver }) {
                throw .tooManyJobs("job \(other.id) is \(other.status.rawValue), and one import or export runs at a time")
            }
            try save(transfer, in: transaction)
            return transfer
        case .advance(let id, let status, let progress, let reason):
            var transfer = try transfer(id, in: transaction)
            guard !transfer.status.isOver else { return transfer }
            (transfer.status, transfer.progress, transfer.failureReason) = (status, progress, reason)
            if status.isOver { transfer.endTime = now }
            try save(transfer, in: transaction)
            return transfer
        case .cancel(let id):
            var transfer = try transfer(id, in: transaction)
            guard !transfer.status.isOver else { return transfer }
            (transfer.status, transfer.endTime) = (.cancelled, now)
            try save(transfer, in: transaction)
            return transfer
        case .forget(let id):
            let transfer = try transfer(id, in: transaction)
            guard transfer.status.isOver else { return transfer }
            _ = try stored { () throws(StoreError) in try transaction.delete(.transfers, id) }
            return transfer
        }
    }

    private static func save(_ transfer: Transfer, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        try stored { () throws(StoreError) in
            try transaction.put(.transfers, transfer.id, transfer.json.bytes())
            _ = try transaction.log(Change(.transferUpdated, name: transfer.id))
        }
    }

    private static func transfer(_ id: String, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> Transfer {
        let found = try stored { () throws(StoreError) in
            try transaction.lend(.transfers, id) { bytes throws(StoreError) in try decode(transfer: bytes) }
        }
        guard let found else { throw .jobNotFound(id) }
        return found
    }

    private static func decode(transfer bytes: RawSpan) throws(StoreError) -> Transfer {
        guard let transfer = Transfer(record: bytes) else { throw .damaged(path: "registry", reason: "a transfer's record") }
        return transfer
    }

    private static func transfers(in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> [Transfer] {
        try stored { () throws(StoreError) in
            try transaction.collect(.transfers) { _, value throws(StoreError) in try decode(transfer: value) }
        }
    }

    /// The job, or `jobNotFound`.
    package func transfer(_ id: String) throws(RegistryError) -> Transfer {
        try read { transaction throws(RegistryError) in try Self.transfer(id, in: transaction) }
    }

    /// All of them, the latest first.
    package func transfers() throws(RegistryError) -> [Transfer] {
        try read { transaction throws(RegistryError) in try Self.transfers(in: transaction) }.sorted { $0.startTime > $1.startTime }
    }

    /// Whether an import or export job has this id.
    package func hasTransfer(_ id: String) throws(RegistryError) -> Bool {
        try read { transaction throws(RegistryError) in try Self.isTransfer(id, in: transaction) }
    }

    static func isTransfer(_ id: String, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> Bool {
        try stored { () throws(StoreError) in try transaction.contains(.transfers, id) }
    }
}
