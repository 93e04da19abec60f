import Console
import Registry
import Wire

/// Some rows of a query's answer, as either place tells them.
struct QueryRows {
    var kind: String
    var items: [JSONValue]
    /// For the next page.
    var continuation: String?
}

extension Administration {
    /// The whole twin; from the state directory without what only a running hub knows.
    func twin(_ name: ClientIdentity) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in try registry.twin(name).json(live: nil) }
        case .service(let client): try client.get(name.twinSegments)
        }
    }

    /// Merges into tags and desired properties, or replaces them, and tells the twin as it is then.
    ///
    /// - Parameter etag: nil: whatever is there.
    func changeTwin(_ name: ClientIdentity, _ document: JSONValue, etag: String?, replaces: Bool) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            return try asking { () throws(RegistryError) in
                let change = replaces ? try TwinChange(replacement: document) : try TwinChange(patch: document)
                return try registry.order(.changeTwin(name, change, IfMatch(header: etag))).twin?.json(live: nil) ?? .null
            }
        case .service(let client):
            return try client.send(replaces ? "PUT" : "PATCH", name.twinSegments, document, ifMatch: etag)
        }
    }

    /// Visits every page of a query's answer.
    func forEachPage(of query: String, _ body: (QueryRows) throws(Failure) -> Void) throws(Failure) {
        var continuation: String?
        repeat {
            let rows: QueryRows
            switch self {
            case .state(let registry):
                let page = try asking { () throws(RegistryError) in
                    var run = try QueryRun(query, rows: QueryRun.mostRows, continuation: continuation)
                    return try run.wholePage(in: registry)
                }
                rows = QueryRows(kind: page.kind.rawValue, items: page.items, continuation: page.continuation)
            case .service(let client): rows = try client.query(query, rows: QueryRun.mostRows, continuation: continuation)
            }
            try body(rows)
            continuation = rows.continuation
        } while continuation != nil
    }
}

extension ClientIdentity {
    /// The path of the twin in the service API, a segment each.
    fileprivate var twinSegments: [String] { ["twins", deviceID] + (moduleID.map { ["modules", $0] } ?? []) }
}
