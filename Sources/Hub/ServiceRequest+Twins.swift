import LinuxIO
import Registry
import Serving
import Wire

/// Twins and queries over them (service-rest 9 and 11).
extension ServiceRequest {
    /// `/twins/{device}` and `/twins/{device}/modules/{module}`.
    func twin(_ name: ClientIdentity) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "PATCH", "PUT")
        try authorize(.serviceConnect, head.method == "GET" ? .twinReads : .twinUpdates)
        let core = self.core
        @Sendable func answer(_ twin: TwinDocument) -> HTTPAnswer {
            HTTPAnswer(json: twin.json(live: core.liveState(name)), etag: twin.twin.etag)
        }
        guard head.method != "GET" else { return answer(try reading { () throws(RegistryError) in try registry.twin(name) }) }
        let body = try json(), replaces = head.method == "PUT"
        let change = try reading { () throws(RegistryError) in
            replaces ? try TwinChange(replacement: body) : try TwinChange(patch: body)
        }
        return commit(.changeTwin(name, change, IfMatch(header: head.headers["If-Match"]))) { outcome in
            outcome.twin.map(answer) ?? HTTPAnswer(status: 500)
        }
    }

    /// `POST /devices/query`: one page, worked on beside the reactors.
    func query() throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.serviceConnect, .queries)
        guard let text = try json()["query"]?.string else { throw .registry(.argumentNull("BadRequest; the body has no query")) }
        let rows = try wantedRows()
        let core = self.core
        let run = try reading { () throws(RegistryError) in
            try QueryRun(text, rows: rows, continuation: head.headers["x-ms-continuation"]) { core.liveState($0) }
        }
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
        let isTaken = core.queries.run(run, in: registry) { result in
            let answer: HTTPAnswer =
                switch result {
                case .success(let page): HTTPAnswer(page)
                case .failure(let error): HTTPAnswer(error)
                }
            mailbox.send { reactor in (reactor.source(token) as? HTTPConnection)?.answer(answer, to: serial, on: reactor) }
        }
        if !isTaken { throw .registry(.throttled(milliseconds: 1000)) }
        return nil
    }

    func wantedRows() throws(Problem) -> Int? {
        guard let text = head.headers["x-ms-max-item-count"], !text.isEmpty else { return nil }
        guard let rows = Int(text), rows != 0 else { throw .registry(.argumentInvalid("BadRequest; x-ms-max-item-count is no number")) }
        return rows < 0 ? nil : rows  // -1: as many as the hub likes
    }
}

extension HTTPAnswer {
    fileprivate init(_ page: QueryPage) {
        self.init(json: .array(page.items))
        headers.add("x-ms-item-type", page.kind.rawValue)
        if let continuation = page.continuation { headers.add("x-ms-continuation", continuation) }
    }
}
