import Bytes

/// A stretch of the change log.
package struct ChangePage: Equatable, Sendable {
    package var changes: [Change]
    /// Entries after the asked-for place are gone, trimmed or with a backup put back: read everything anew.
    package var missed: Bool
}

extension Snapshot where Self: ~Copyable {
    /// The log's last entry, or 0 when nothing was ever changed.
    package func lastSequence() throws(StoreError) -> UInt64 {
        var last: UInt64 = 0
        try scan(.changes, prefix: [], from: nil, backwards: true) { key, _ in
            last = Self.sequence(key)
            return false
        }
        return last
    }

    /// The entries after `sequence`, oldest first, `limit` at the most.
    package func changes(after sequence: UInt64, limit: Int = 1000) throws(StoreError) -> ChangePage {
        var page = ChangePage(changes: [], missed: false)
        let last = try lastSequence()
        guard sequence < last, limit > 0 else {
            page.missed = sequence > last  // a backup was put back
            return page
        }
        var expected = sequence + 1
        try scan(.changes, prefix: [], from: ChangeLog.key(expected)) { key, value in
            let found = Self.sequence(key)
            if found != expected { page.missed = true }
            expected = found &+ 1
            if let change = Change(value, sequence: found) { page.changes.append(change) } else { page.missed = true }
            return page.changes.count < limit
        }
        return page
    }

    /// What was left beside an entry of the log for those it concerns; nil when there was nothing, or when it is too long ago.
    package func notice(of sequence: UInt64) throws(StoreError) -> [UInt8]? {
        var key = ChangeLog.key(sequence)
        return try lend(.notices, bytes: &key) { $0.toArray() }
    }

    private static func sequence(_ key: RawSpan) -> UInt64 {
        key.byteCount == 8 ? key.bigEndian(at: 0, as: UInt64.self) : 0
    }
}

extension WriteTransaction {
    /// Appends to the change log, drops what has become too old, and tells the entry's sequence.
    ///
    /// - Parameter notice: what those want to know whom the change concerns; kept for a much shorter time.
    @discardableResult
    package borrowing func log(_ change: Change, notice: [UInt8]? = nil) throws(StoreError) -> UInt64 {
        let sequence = try lastSequence() + 1
        var key = ChangeLog.key(sequence)
        try put(.changes, bytes: &key, change.encoded())
        if try count(.changes) > ChangeLog.kept { try trim(.changes) }
        if let notice {
            try put(.notices, bytes: &key, notice)
            if try count(.notices) > ChangeLog.noticesKept { try trim(.notices) }
        }
        return sequence
    }

    /// Two leave for one that comes, so a log that is too long becomes shorter.
    private borrowing func trim(_ table: Table) throws(StoreError) {
        var oldest: [[UInt8]] = []
        try scan(table, prefix: [], from: nil) { key, _ in
            oldest.append(key.toArray())
            return oldest.count < 2
        }
        for key in oldest {
            var key = key
            _ = try delete(table, bytes: &key)
        }
    }
}

/// Constants of the change log.
package enum ChangeLog {
    /// Entries that are kept for a hub that was away.
    package static let kept = 100_000
    /// Notices that are kept: for a hub that is a little late.
    package static let noticesKept = 4_096

    static func key(_ sequence: UInt64) -> [UInt8] {
        withUnsafeBytes(of: sequence.bigEndian) { Array($0) }
    }
}

extension Store {
    /// The log's last entry, or 0 when nothing was ever changed.
    package func lastSequence() throws(StoreError) -> UInt64 {
        try read { transaction throws(StoreError) in try transaction.lastSequence() }
    }

    /// The entries after `sequence`, oldest first, `limit` at the most.
    package func changes(after sequence: UInt64, limit: Int = 1000) throws(StoreError) -> ChangePage {
        try read { transaction throws(StoreError) in try transaction.changes(after: sequence, limit: limit) }
    }
}
