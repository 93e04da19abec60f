import Console
import Registry
import Wire

// Scheduled jobs and configurations, on the state directory or over REST.

extension Administration {
    // MARK: - Scheduled jobs

    func job(_ id: String) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in try registry.job(id).json }
        case .service(let client): try client.get(["jobs", "v2", id])
        }
    }

    /// Makes a job; the running hub, or the next one, works on it.
    func createJob(_ id: String, _ document: JSONValue) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in
                let job = try Job(request: document, id: id, now: .now)
                return try registry.order(.job(.create(job))).job?.job.json ?? .null
            }
        case .service(let client): try client.send("PUT", ["jobs", "v2", id], document)
        }
    }

    func cancelJob(_ id: String) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in try registry.order(.job(.cancel(id))).job?.job.json ?? .null }
        case .service(let client): try client.send("POST", ["jobs", "v2", id, "cancel"], nil)
        }
    }

    /// Jobs in the order of their ids.
    ///
    /// - Parameter most: how many at the most; nil: all.
    func jobs(type: String?, status: String?, most: Int?) throws(Failure) -> [JSONValue] {
        var found: [JSONValue] = [], continuation: String?
        repeat {
            let rows = min(most.map { $0 - found.count } ?? QueryRun.mostRows, QueryRun.mostRows)
            let page: QueryRows
            switch self {
            case .state(let registry):
                let answer = try asking { () throws(RegistryError) in
                    try registry.jobs(JobFilter(type: type, status: status), rows: rows, continuation: continuation)
                }
                page = QueryRows(kind: answer.kind.rawValue, items: answer.items, continuation: answer.continuation)
            case .service(let client):
                let query = [("jobType", type), ("jobStatus", status)].compactMap { name, value in value.map { (name, $0) } }
                page = try client.page(["jobs", "v2", "query"], query: query, rows: rows, continuation: continuation)
            }
            found += page.items
            continuation = page.continuation
        } while continuation != nil && most.map { found.count < $0 } ?? true
        return found
    }

    // MARK: - Configurations

    func configuration(_ id: String) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in try registry.configuration(id).json }
        case .service(let client): try client.get(["configurations", id])
        }
    }

    /// In the order of their ids.
    func configurations() throws(Failure) -> [JSONValue] {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in try registry.configurations().live.sorted { $0.id < $1.id }.map(\.json) }
        case .service(let client):
            try client.get(["configurations"], query: [("top", String(Registry.mostConfigurations))]).array ?? []
        }
    }

    /// Makes a configuration, or changes the one with this etag.
    ///
    /// - Parameter etag: nil: there must be none yet.
    func putConfiguration(_ id: String, _ document: JSONValue, etag: String?) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in
                let request = try TwinConfiguration(request: document, id: id, now: .now)
                return try registry.order(.configuration(.put(request, IfMatch(header: etag)))).configuration?.json ?? .null
            }
        case .service(let client): try client.send("PUT", ["configurations", id], document, ifMatch: etag)
        }
    }

    func deleteConfiguration(_ id: String, etag: String?) throws(Failure) {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in
                _ = try registry.order(.configuration(.delete(id, IfMatch(header: etag ?? "*"))))
            }
        case .service(let client): _ = try client.send("DELETE", ["configurations", id], nil, ifMatch: etag ?? "*")
        }
    }
}
