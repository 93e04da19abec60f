import LinuxIO
import Registry
import Serving
import Wire

/// Scheduled jobs (service-rest 14).
extension ServiceRequest {
    /// `/jobs/v2/{id}`, and `/jobs/v2/query`.
    func scheduledJob(_ id: String) throws(Problem) -> HTTPAnswer? {
        if id == "query" { return try listScheduledJobs() }
        try methods("GET", "PUT")
        try authorize(.serviceConnect, .jobs)
        if head.method == "GET" {
            return HTTPAnswer(
                json: try reading { () throws(RegistryError) in
                    do throws(RegistryError) { return try registry.job(id).json } catch {
                        // Tools ask here first, and then at /jobs.
                        guard case .jobNotFound = error, try registry.hasTransfer(id) else { throw error }
                        return ["jobId": .string(id), "type": "unknown", "status": "unknown"]
                    }
                })
        }
        let document = try json()
        let job = try reading { () throws(RegistryError) in try Job(request: document, id: id, now: .now) }
        return commit(.job(.create(job))) { outcome in outcome.job.map { HTTPAnswer(json: $0.job.json) } ?? HTTPAnswer(status: 500) }
    }

    /// `POST /jobs/v2/{id}/cancel`.
    func cancelScheduledJob(_ id: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.serviceConnect, .jobs)
        return commit(.job(.cancel(id))) { outcome in outcome.job.map { HTTPAnswer(json: $0.job.json) } ?? HTTPAnswer(status: 500) }
    }

    /// `GET /jobs/v2/query?jobType=&jobStatus=`: one page, in the order of their ids.
    private func listScheduledJobs() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.serviceConnect, .jobs)
        let filter = JobFilter(type: head.queryValue("jobType"), status: head.queryValue("jobStatus"))
        let continuation = head.headers["x-ms-continuation"] ?? head.queryValue("continuationToken")
        let rows = min(try wantedRows() ?? QueryRun.usualRows, QueryRun.mostRows)
        let page = try reading { () throws(RegistryError) in try registry.jobs(filter, rows: rows, continuation: continuation) }
        var answer = HTTPAnswer(json: .array(page.items))
        if wantsObject {
            answer = HTTPAnswer(
                json: JSONValue.object(of: [
                    "type": "JobResponse", "items": .array(page.items), "continuationToken": page.continuation.map { .string($0) },
                ]))
        }
        answer.headers.add("x-ms-item-type", "JobResponse")
        if let continuation = page.continuation { answer.headers.add("x-ms-continuation", continuation) }
        return answer
    }

    /// The Python package cannot read the array that everybody else needs; `az` bears its name too, and another one.
    private var wantsObject: Bool {
        guard let agent = head.headers["User-Agent"] else { return false }
        return agent.contains(text: "iothubgatewayserviceapis/") && !agent.contains(text: "IoTPlatformCliExtension")
    }
}
