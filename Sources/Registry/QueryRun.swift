import Bytes
import Query
import Store
import Wire

/// Some rows of a query's answer.
package struct QueryPage: Equatable, Sendable {
    /// What the rows are, in `x-ms-item-type`.
    package enum Kind: String, Sendable {
        case twin = "Twin"
        case raw = "Raw"
        case job = "DeviceJob"
        case jobResponse = "JobResponse"
    }

    package var kind: Kind
    package var items: [JSONValue] = []
    /// Asks for the next page; nil when there is none.
    package var continuation: String?
}

/// One page of a query in the making. It comes about in steps of one short snapshot each, so that a query over a million devices
/// neither holds old pages of the store nor keeps other queries waiting.
package struct QueryRun: Sendable {
    /// Records that one step looks at.
    package static let recordsPerStep = 1_000
    /// Rows of a page when nobody says how many, and at the most.
    package static let usualRows = 100
    package static let mostRows = 1_000
    /// A page is sent, though it be short, when so many records were looked at in vain or its rows are so long.
    static let mostRecords = 50_000
    static let mostBytes = 8 << 20

    private let query: Query
    private let digest: UInt64
    private let scope: QueryScope
    private let rows: Int
    private let sight: QuerySight
    private let live: @Sendable (ClientIdentity) -> LiveState?
    private var page: QueryPage
    private var aggregation: QueryAggregation?
    private var rowsLeft: Int?
    private var lastKey: String?
    private var groupsAfter: UInt64?
    private var lookedAt = 0, bytes = 0
    /// The device whose modules are being looked at.
    private var device: Identity?

    /// - Parameters:
    ///   - text: the query.
    ///   - rows: rows of the page, 1 to `mostRows`; nil: `usualRows`.
    ///   - continuation: from the page before; the text must be the same.
    ///   - live: what only the running hub knows of an identity; nil where there is none.
    /// - Throws: `argumentInvalid` with the place of a mistake.
    package init(
        _ text: String, rows: Int? = nil, continuation: String? = nil,
        live: @escaping @Sendable (ClientIdentity) -> LiveState? = { _ in nil }
    ) throws(RegistryError) {
        let query: Query
        do { query = try Query(parsing: text) } catch { throw .argumentInvalid("BadRequest; the query is wrong \(error)") }
        try self.init(query, of: text, rows: rows, continuation: continuation, live: live)
    }

    /// The same of what was read before: of a job's or a configuration's condition, which makes whole twins.
    package init(
        _ query: Query, of text: String, rows: Int? = nil, continuation: String? = nil,
        live: @escaping @Sendable (ClientIdentity) -> LiveState? = { _ in nil }
    ) throws(RegistryError) {
        self.query = query
        self.live = live
        digest = QueryDigest.of(text)
        scope = query.scope
        sight = QuerySight(query)
        self.rows = min(max(rows ?? Self.usualRows, 1), Self.mostRows)
        rowsLeft = query.top
        page = QueryPage(kind: query.source == .jobs ? .job : query.selection == .everything ? .twin : .raw)
        if query.isAggregate { aggregation = QueryAggregation(query) }
        guard let continuation, !continuation.isEmpty else { return }
        guard let place = QueryContinuation(continuation), place.query == digest else {
            throw .argumentInvalid("BadRequest; the continuation token does not belong to this query")
        }
        rowsLeft = place.rowsLeft
        switch place.place {
        case .after(let key): lastKey = key
        case .afterGroups(let digest): groupsAfter = digest
        }
    }

    /// Looks at some more records.
    ///
    /// - Returns: the page when it is whole; nil when there is more to look at.
    package mutating func step(in registry: Registry) throws(RegistryError) -> QueryPage? {
        var run = self
        let isOver = try registry.read { transaction throws(RegistryError) in try run.advance(in: transaction) }
        self = run
        return isOver ? finished() : nil
    }

    /// The whole page at once: for tools, which have nobody else to serve.
    package mutating func wholePage(in registry: Registry) throws(RegistryError) -> QueryPage {
        while true {
            if let page = try step(in: registry) { return page }
        }
    }

    // MARK: - Looking

    /// One step; true when the page is whole.
    private mutating func advance(
        in transaction: borrowing ReadTransaction
    ) throws(RegistryError) -> Bool {
        device = nil  // it may have changed since the last snapshot
        let stop = lookedAt + Self.recordsPerStep
        if query.source == .jobs { return try scanJobs(until: stop, in: transaction) }
        switch scope {
        case .all: return try scan(prefix: "", until: stop, in: transaction)
        case .prefix(let text): return try scan(prefix: text, until: stop, in: transaction)
        case .devices(let ids):
            for id in ids {
                if let lastKey, !Self.mayFollow(lastKey, id) { continue }
                let isOver: Bool
                if query.source == .modules {
                    isOver = try scan(prefix: "\(id)\0", until: stop, in: transaction)
                } else {
                    isOver = try look(up: id, in: transaction)
                }
                if page.continuation != nil || rowsLeft == 0 { return true }
                if !isOver || lookedAt >= stop { return false }
            }
            return true
        }
    }

    /// Whether records of the device `id` can stand behind the one of `key`.
    private static func mayFollow(_ key: String, _ id: String) -> Bool {
        let device = key.prefix { $0 != "\0" }
        if key.utf8.count > device.utf8.count, device == id { return true }
        return device.utf8.lexicographicallyPrecedes(id.utf8)
    }

    private mutating func look(
        up id: String, in transaction: borrowing ReadTransaction
    ) throws(RegistryError) -> Bool {
        guard let name = ClientIdentity(deviceID: id), try Registry.find(name, in: transaction) != nil else {
            lastKey = id
            return true
        }
        guard try take(name, id, in: transaction) else { return false }
        return true
    }

    /// Goes through the records behind `lastKey`; true when they have come to an end, or the page has.
    private mutating func scan(
        prefix: String, until stop: Int, in transaction: borrowing ReadTransaction
    ) throws(RegistryError) -> Bool {
        let table = query.source == .modules ? Table.modules : .devices
        var keys: [String] = []
        let start = lastKey.map { "\($0)\0" }
        let wanted = stop - lookedAt
        try Registry.stored { () throws(StoreError) in
            // Records that stand before the prefix are not gone through: the place decides where to begin only behind it.
            let from = start.flatMap { $0.utf8.lexicographicallyPrecedes(prefix.utf8) ? nil : $0 }
            try transaction.scan(table, prefix: prefix, from: from) { key, _ throws(StoreError) in
                keys.append(key.toString() ?? "")
                return keys.count < wanted
            }
        }
        for key in keys {
            let ids = key.split(separator: "\0", maxSplits: 1)
            guard let first = ids.first, let name = ClientIdentity(deviceID: String(first), moduleID: ids.count > 1 ? String(ids[1]) : nil)
            else { throw .store(.damaged(path: "registry", reason: "a record's key")) }
            guard try take(name, key, in: transaction) else { return true }
        }
        return keys.count < wanted
    }

    /// Looks at one record; false when the page was whole before it.
    private mutating func take(
        _ name: ClientIdentity, _ key: String, in transaction: borrowing ReadTransaction
    ) throws(RegistryError) -> Bool {
        if aggregation == nil {
            if rowsLeft == 0 { return false }
            if page.items.count >= rows || lookedAt >= Self.mostRecords || bytes >= Self.mostBytes {
                page.continuation = lastKey.map { QueryContinuation(query: digest, rowsLeft: rowsLeft, place: .after(key: $0)).text }
                return false
            }
        }
        lookedAt += 1
        lastKey = key
        var row = QueryRow(name: name, live: live)
        try row.load(sight.condition, device: &device, in: transaction)
        guard query.matches(row) else { return true }
        try row.load(sight.selection, device: &device, in: transaction)
        if aggregation != nil {
            do { try aggregation?.add(row) } catch {
                throw .argumentInvalid("BadRequest; GROUP BY makes more than \(QueryAggregation.mostGroups) groups")
            }
            return true
        }
        page.items.append(query.selection == .everything ? row.document : query.row(row))
        bytes += row.bytes
        if let left = rowsLeft { rowsLeft = left - 1 }
        return true
    }

    /// Goes through what became of jobs at devices, behind `lastKey`; true when that has come to an end, or the page has.
    private mutating func scanJobs(until stop: Int, in transaction: borrowing ReadTransaction) throws(RegistryError) -> Bool {
        var run = self, isFull = false
        let prefix = query.jobID.map { "\($0)\0" } ?? ""
        try Registry.stored { () throws(StoreError) in
            try transaction.scan(.outcomes, prefix: prefix, from: lastKey.map { "\($0)\0" }) { key, value throws(StoreError) in
                if run.rowsLeft == 0 {
                    isFull = true
                } else if run.page.items.count >= run.rows || run.lookedAt >= Self.mostRecords || run.bytes >= Self.mostBytes {
                    isFull = true
                    run.page.continuation = run.lastKey.map {
                        QueryContinuation(query: run.digest, rowsLeft: run.rowsLeft, place: .after(key: $0)).text
                    }
                }
                guard !isFull, run.lookedAt < stop else { return false }
                run.lookedAt += 1
                run.lastKey = key.toString()
                let device = try Registry.decode(jobDevice: value)
                guard run.query.matches(device.json) else { return true }
                run.page.items.append(device.json)
                run.bytes += value.byteCount
                run.rowsLeft = run.rowsLeft.map { $0 - 1 }
                return true
            }
        }
        let isOver = isFull || run.lookedAt < stop
        self = run
        return isOver
    }

    private func finished() -> QueryPage {
        guard let aggregation else { return page }
        var page = page, rowsLeft = rowsLeft
        var lastDigest: UInt64?
        for (digest, row) in aggregation.rows() {
            if let groupsAfter, digest <= groupsAfter { continue }
            if rowsLeft == 0 { break }
            // Rows of one digest stay together: the token cannot tell them apart.
            if page.items.count >= rows, let last = lastDigest, last != digest {
                page.continuation = QueryContinuation(query: self.digest, rowsLeft: rowsLeft, place: .afterGroups(last)).text
                break
            }
            page.items.append(row)
            lastDigest = digest
            if let left = rowsLeft { rowsLeft = left - 1 }
        }
        return page
    }
}
