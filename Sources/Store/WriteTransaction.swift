import Bytes
import CLMDB

/// All changes of one write, or none. Only one write runs at a time among all processes: keep it short.
package struct WriteTransaction: ~Copyable, Snapshot {
    package let context: TransactionContext
    let progress = WriteProgress()

    init(_ handle: OpaquePointer, _ store: Store) { context = TransactionContext(handle: handle, store: store) }
    deinit { if !progress.isOver { mdb_txn_abort(context.handle) } }

    /// Makes the changes last: they are on the disk when this returns.
    consuming func commit() throws(StoreError) {
        progress.isOver = true  // LMDB frees the transaction even when the commit fails
        try context.check(mdb_txn_commit(context.handle), "commit")
    }
}

/// How far a write has come. Belongs to the one thread that runs the transaction.
final class WriteProgress {
    var changes = 0
    /// The first refusal of LMDB: the transaction must not be committed after it.
    var failure: StoreError?
    var isOver = false
}

extension WriteTransaction {
    private func verify(_ code: CInt, _ operation: StaticString) throws(StoreError) {
        guard code != 0 else { return }
        let failure = context.store.error(code, operation)
        progress.failure = progress.failure ?? failure
        throw failure
    }

    /// Stores the value, in the place of an older one.
    package borrowing func put(_ table: Table, _ key: some StringProtocol, _ value: [UInt8]) throws(StoreError) {
        var name = Array(key.utf8)
        try put(table, bytes: &name, value)
    }

    borrowing func put(_ table: Table, bytes key: inout [UInt8], _ value: [UInt8]) throws(StoreError) {
        guard !key.isEmpty, key.count <= Store.longestKeyBytes else { throw .badSize(bytes: key.count) }
        progress.changes += 1
        let (handle, dbi) = (context.handle, context.table(table))
        let code = key.withUnsafeMutableBytes { key in
            value.withUnsafeBytes { value in
                var name = MDB_val(mv_size: key.count, mv_data: key.baseAddress)
                // LMDB reads the value only; the type of the field knows no const.
                var data = MDB_val(mv_size: value.count, mv_data: UnsafeMutableRawPointer(mutating: value.baseAddress))
                return mdb_put(handle, dbi, &name, &data, 0)
            }
        }
        try verify(code, "write")
    }

    /// Removes the record and tells whether there was one.
    @discardableResult
    package borrowing func delete(_ table: Table, _ key: some StringProtocol) throws(StoreError) -> Bool {
        var name = Array(key.utf8)
        return try delete(table, bytes: &name)
    }

    borrowing func delete(_ table: Table, bytes key: inout [UInt8]) throws(StoreError) -> Bool {
        guard !key.isEmpty, key.count <= Store.longestKeyBytes else { return false }
        let (handle, dbi) = (context.handle, context.table(table))
        let code = key.withUnsafeMutableBytes { key in
            var name = MDB_val(mv_size: key.count, mv_data: key.baseAddress)
            return mdb_del(handle, dbi, &name, nil)
        }
        guard code != MDB_NOTFOUND else { return false }
        progress.changes += 1
        try verify(code, "delete")
        return true
    }

    /// Removes every record whose key begins with `prefix`, and tells how many there were.
    @discardableResult
    package borrowing func deleteAll(_ table: Table, prefix: String) throws(StoreError) -> Int {
        var keys: [[UInt8]] = []
        try scan(table, prefix: Array(prefix.utf8), from: nil) { key, _ in
            keys.append(key.toArray())
            return true
        }
        for key in keys {
            var key = key
            _ = try delete(table, bytes: &key)
        }
        return keys.count
    }

    /// Sets an integer of the `meta` table.
    package borrowing func setCounter(_ name: String, _ value: UInt64) throws(StoreError) {
        try put(.meta, name, withUnsafeBytes(of: value.bigEndian) { Array($0) })
    }

    /// Whether anything was written so far.
    var changes: Int { progress.changes }
    var failure: StoreError? { progress.failure }
}
