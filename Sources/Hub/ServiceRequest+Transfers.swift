import Registry
import Serving
import Wire

/// Import and export jobs (service-rest 15).
extension ServiceRequest {
    /// `GET /jobs`.
    func transfers() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.registryRead, .jobs)
        return HTTPAnswer(json: .array(try reading { () throws(RegistryError) in try registry.transfers().map(\.json) }))
    }

    /// `POST /jobs/create`, and `GET` and `DELETE /jobs/{id}`.
    func transfer(_ id: String) throws(Problem) -> HTTPAnswer? {
        if id == "create" {
            try methods("POST")
            try authorize(.registryWrite, .jobs)
            let document = try json()
            let transfer = try reading { () throws(RegistryError) in try Transfer(request: document, now: .now) }
            return commit(.transfer(.create(transfer))) { outcome in
                outcome.transfer.map { HTTPAnswer(json: $0.json) } ?? HTTPAnswer(status: 500)
            }
        }
        try methods("GET", "DELETE")
        guard head.method == "DELETE" else {
            try authorize(.registryRead, .jobs)
            return HTTPAnswer(json: try reading { () throws(RegistryError) in try registry.transfer(id).json })
        }
        try authorize(.registryWrite, .jobs)
        return commit(.transfer(.cancel(id))) { _ in HTTPAnswer(status: 204) }
    }
}
