import Query
import Store
import Wire

/// Which scheduled jobs somebody wants to see. A word that no job has finds none.
package struct JobFilter: Equatable, Sendable {
    /// `scheduleUpdateTwin` or `scheduleDeviceMethod`, and a status; nil: any.
    package var type, status: String?

    /// Empty texts stand for any; letters' case does not count.
    package init(type: String? = nil, status: String? = nil) {
        self.type = type?.isEmpty == false ? type : nil
        self.status = status?.isEmpty == false ? status : nil
    }

    func takes(_ job: Job) -> Bool {
        (type.map { ASCII.equalIgnoringCase($0, job.kind.rawValue) } ?? true)
            && (status.map { ASCII.equalIgnoringCase($0, job.status.rawValue) } ?? true)
    }

    /// What a continuation belongs to.
    fileprivate var digest: UInt64 { QueryDigest.of("jobs \(type ?? "") \(status ?? "")") }
}

extension Registry {
    /// Jobs that a page looks at: one that finds few ends all the same, and can be empty and go on.
    private static let jobsPerPage = 1_000

    /// A page of jobs in the order of their ids.
    ///
    /// - Throws: `argumentInvalid` when the continuation belongs to another listing.
    package func jobs(_ filter: JobFilter, rows: Int, continuation: String? = nil) throws(RegistryError) -> QueryPage {
        var after: String?
        if let continuation, !continuation.isEmpty {
            guard let place = QueryContinuation(continuation), place.query == filter.digest, case .after(let key) = place.place else {
                throw .argumentInvalid("BadRequest; the continuation token does not belong to this list")
            }
            after = key
        }
        let wanted = max(rows, 1)
        var page = QueryPage(kind: .jobResponse)
        var looked = 0, last: String?
        try read { transaction throws(RegistryError) in
            try Self.forEachJob(from: after.map { "\($0)\0" }, in: transaction) { job in
                guard page.items.count < wanted, looked < Self.jobsPerPage else {
                    page.continuation = last.map { QueryContinuation(query: filter.digest, rowsLeft: nil, place: .after(key: $0)).text }
                    return false
                }
                looked += 1
                last = job.id
                if filter.takes(job) { page.items.append(job.json) }
                return true
            }
        }
        return page
    }
}
