import Bytes
import CLMDB

/// What can be read inside a transaction. Bytes that are lent point into the map: copy what outlives the closure.
package protocol Snapshot: ~Copyable {
    var context: TransactionContext { get }
}

/// LMDB's handle of a transaction, and whose it is.
package struct TransactionContext {
    let handle: OpaquePointer
    let store: Store

    func table(_ table: Table) -> MDB_dbi { store.handles[table.rawValue] }

    func check(_ code: CInt, _ operation: StaticString) throws(StoreError) {
        guard code != 0 else { return }
        throw store.error(code, operation)
    }
}

/// One state of the registry, as it was when the transaction began. Keep it short: pages are not reused while it lasts.
package struct ReadTransaction: ~Copyable, Snapshot {
    package let context: TransactionContext

    init(_ handle: OpaquePointer, _ store: Store) { context = TransactionContext(handle: handle, store: store) }
    deinit { mdb_txn_abort(context.handle) }
}

extension Snapshot where Self: ~Copyable {
    /// The value of `key`, lent to `body`; nil when there is none.
    package func lend<Result>(
        _ table: Table, _ key: some StringProtocol, _ body: (RawSpan) throws(StoreError) -> Result
    ) throws(StoreError) -> Result? {
        var bytes = Array(key.utf8)
        return try lend(table, bytes: &bytes, body)
    }

    /// A copy of the value of `key`; nil when there is none.
    package func get(_ table: Table, _ key: some StringProtocol) throws(StoreError) -> [UInt8]? {
        try lend(table, key) { $0.toArray() }
    }

    package func contains(_ table: Table, _ key: some StringProtocol) throws(StoreError) -> Bool {
        try lend(table, key) { _ in true } ?? false
    }

    func lend<Result>(
        _ table: Table, bytes key: inout [UInt8], _ body: (RawSpan) throws(StoreError) -> Result
    ) throws(StoreError) -> Result? {
        guard !key.isEmpty, key.count <= Store.longestKeyBytes else { return nil }
        var value = MDB_val()
        let (context, dbi) = (context, context.table(table))
        let code = key.withUnsafeMutableBytes { pointer in
            var name = MDB_val(mv_size: pointer.count, mv_data: pointer.baseAddress)
            return mdb_get(context.handle, dbi, &name, &value)
        }
        guard code != MDB_NOTFOUND else { return nil }
        try context.check(code, "read")
        return try body(UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size).bytes)
    }

    /// How many records a table has; costs nothing.
    package func count(_ table: Table) throws(StoreError) -> Int {
        var statistics = MDB_stat()
        try context.check(mdb_stat(context.handle, context.table(table), &statistics), "count")
        return statistics.ms_entries
    }

    /// Visits the records whose keys begin with `prefix`, in order of their keys, until `body` says false.
    ///
    /// - Parameter start: the first key to visit, if not the first of all.
    package func scan(
        _ table: Table, prefix: String = "", from start: String? = nil,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws(StoreError) -> Bool
    ) throws(StoreError) {
        try scan(table, prefix: Array(prefix.utf8), from: start.map { Array($0.utf8) }, body)
    }

    /// What `read` makes of the records whose keys begin with `prefix`, in order of their keys.
    ///
    /// - Parameters:
    ///   - start: the first key to read, if not the first of all.
    ///   - top: how many at the most.
    package func collect<Value>(
        _ table: Table, prefix: String = "", from start: String? = nil, top: Int = .max,
        _ read: (_ key: RawSpan, _ value: RawSpan) throws(StoreError) -> Value
    ) throws(StoreError) -> [Value] {
        var found: [Value] = []
        guard top > 0 else { return found }
        try scan(table, prefix: prefix, from: start) { key, value throws(StoreError) in
            found.append(try read(key, value))
            return found.count < top
        }
        return found
    }

    func scan(
        _ table: Table, prefix: [UInt8], from start: [UInt8]?, backwards: Bool = false,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws(StoreError) -> Bool
    ) throws(StoreError) {
        var cursor: OpaquePointer?
        let context = context
        try context.check(mdb_cursor_open(context.handle, context.table(table), &cursor), "open cursor")
        defer { mdb_cursor_close(cursor) }
        var key = MDB_val()
        var value = MDB_val()
        var first = start ?? prefix
        let opening = backwards ? MDB_LAST : MDB_FIRST
        var code = first.withUnsafeMutableBytes { pointer in
            guard pointer.count > 0 else { return mdb_cursor_get(cursor, &key, &value, opening) }
            key = MDB_val(mv_size: pointer.count, mv_data: pointer.baseAddress)
            return mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE)
        }
        while code != MDB_NOTFOUND {
            try context.check(code, "scan")
            let name = UnsafeRawBufferPointer(start: key.mv_data, count: key.mv_size)
            guard name.starts(with: prefix) else { return }
            guard try body(name.bytes, UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size).bytes) else { return }
            code = mdb_cursor_get(cursor, &key, &value, backwards ? MDB_PREV : MDB_NEXT)
        }
    }

    /// An integer of the `meta` table; 0 when there is none.
    package func counter(_ name: String) throws(StoreError) -> UInt64 {
        try lend(.meta, name) { $0.byteCount == 8 ? $0.bigEndian(at: 0, as: UInt64.self) : 0 } ?? 0
    }
}
