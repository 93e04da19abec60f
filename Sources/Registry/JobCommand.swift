import Store
import Wire

/// What changes a scheduled job, or does some of its work. A step of work that comes too late, for a job that is over, does nothing.
package enum JobCommand: Sendable {
    case create(Job)
    case cancel(String)
    /// Its time has come, but other jobs are at work.
    case queue(String)
    /// It comes to work.
    case begin(String)
    /// Devices that it is for, and where the search goes on; nil: there are no more.
    case list(String, [ClientIdentity], next: String?)
    /// Changes the twins of the next devices, and notes each in the same commit.
    case updateTwins(String, after: String?)
    /// Takes the next devices for a call.
    case claim(String, after: String?, most: Int)
    /// Notes what came of calls.
    case settle(String, [(name: ClientIdentity, outcome: JobDevice.Outcome)])
    /// It is over: `completed`, or `failed` with a reason.
    case end(String, Job.Status, reason: String)
    /// Marks some of the devices that still waited when the job ended.
    case sweep(String)
    /// Removes some of a job that is long over, and at last itself.
    case forget(String)
}

/// What a job's command has led to.
package struct JobStep: Equatable, Sendable {
    package var job: Job
    /// Devices that were taken.
    package var names: [ClientIdentity] = []
    /// Where the next step goes on.
    package var last: String?
    /// There is no more of this to do.
    package var isOver = true
}

extension Registry {
    /// Jobs that may wait or be at work at a time.
    package static let mostActiveJobs = 100
    /// Devices of one commit.
    package static let jobDevicesPerStep = 100

    static func apply(_ command: JobCommand, in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) -> JobStep {
        switch command {
        case .create(let job):
            guard try findJob(job.id, in: transaction) == nil, try !isTransfer(job.id, in: transaction) else {
                throw .jobAlreadyExists(job.id)
            }
            let active = try stored { () throws(StoreError) in try transaction.counter(activeJobs) }
            guard active < mostActiveJobs else {
                throw .tooManyJobs("\(mostActiveJobs) jobs wait or are at work, the most that may")
            }
            try stored { () throws(StoreError) in try transaction.setCounter(activeJobs, active + 1) }
            return try announce(job, in: transaction)
        case .cancel(let id):
            var job = try job(id, in: transaction)
            if job.status == .cancelled { return JobStep(job: job) }
            guard !job.status.isOver else { throw .invalidOperation("job \(id) is \(job.status.rawValue) already") }
            job.finish(.cancelled, "", now: now)
            try countEnd(in: transaction)
            return try announce(job, in: transaction)
        case .queue(let id): return try change(id, when: { $0 == .scheduled }, in: transaction) { $0.status = .queued }
        case .begin(let id):
            return try change(id, when: { $0 == .scheduled || $0 == .queued }, in: transaction) { job in
                job.status = .running
                job.beganTime = now
            }
        case .end(let id, let status, let reason):
            guard try job(id, in: transaction).status == .running else { return JobStep(job: try job(id, in: transaction)) }
            try countEnd(in: transaction)
            return try change(id, when: { $0 == .running }, in: transaction) { $0.finish(status, reason, now: now) }
        case .list(let id, let names, let next): return try list(id, names, next: next, in: transaction, now: now)
        case .updateTwins(let id, let after): return try updateTwins(id, after: after, in: transaction, now: now)
        case .claim(let id, let after, let most): return try claim(id, after: after, most: most, in: transaction, now: now)
        case .settle(let id, let outcomes): return try settle(id, outcomes, in: transaction, now: now)
        case .sweep(let id): return try sweep(id, in: transaction, now: now)
        case .forget(let id): return try forget(id, in: transaction)
        }
    }

    /// How many jobs are not over.
    private static let activeJobs = "jobs.active"

    private static func countEnd(in transaction: borrowing WriteTransaction) throws(RegistryError) {
        try stored { () throws(StoreError) in
            let active = try transaction.counter(activeJobs)
            try transaction.setCounter(activeJobs, active - min(1, active))
        }
    }

    /// Stores what a service changed, so that the hub hears of it.
    private static func announce(_ job: Job, in transaction: borrowing WriteTransaction) throws(RegistryError) -> JobStep {
        try save(job, in: transaction)
        _ = try stored { () throws(StoreError) in try transaction.log(Change(.jobUpdated, name: job.id)) }
        return JobStep(job: job)
    }

    private static func change(
        _ id: String, when isMeant: (Job.Status) -> Bool, in transaction: borrowing WriteTransaction, _ body: (inout Job) -> Void
    ) throws(RegistryError) -> JobStep {
        var job = try job(id, in: transaction)
        guard isMeant(job.status) else { return JobStep(job: job) }
        body(&job)
        try save(job, in: transaction)
        return JobStep(job: job)
    }

    // MARK: - Reading

    static func save(_ job: Job, in transaction: borrowing WriteTransaction) throws(RegistryError) {
        try stored { () throws(StoreError) in try transaction.put(.jobs, job.id, job.record) }
    }

    static func findJob(_ id: String, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> Job? {
        try stored { () throws(StoreError) in
            try transaction.lend(.jobs, id) { bytes throws(StoreError) in
                guard let job = Job(record: bytes) else { throw .damaged(path: "registry", reason: "a job's record") }
                return job
            }
        }
    }

    static func job(_ id: String, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> Job {
        guard let job = try findJob(id, in: transaction) else { throw .jobNotFound(id) }
        return job
    }

    /// Visits jobs in the order of their ids until `body` says false.
    static func forEachJob(
        from start: String? = nil, in transaction: borrowing some Snapshot & ~Copyable, _ body: (Job) -> Bool
    ) throws(RegistryError) {
        try stored { () throws(StoreError) in
            try transaction.scan(.jobs, from: start) { _, value throws(StoreError) in
                guard let job = Job(record: value) else { throw .damaged(path: "registry", reason: "a job's record") }
                return body(job)
            }
        }
    }

    /// The job, or `jobNotFound`.
    package func job(_ id: String) throws(RegistryError) -> Job {
        try read { transaction throws(RegistryError) in try Self.job(id, in: transaction) }
    }

    /// Jobs that the filter takes, in the order of their ids.
    package func jobs(where isMeant: (Job) -> Bool) throws(RegistryError) -> [Job] {
        try read { transaction throws(RegistryError) in
            var found: [Job] = []
            try Self.forEachJob(in: transaction) { job in
                if isMeant(job) { found.append(job) }
                return true
            }
            return found
        }
    }
}

extension Job {
    mutating func finish(_ status: Status, _ reason: String, now: Timestamp) {
        self.status = status
        failureReason = reason
        endTime = now
        listedTo = nil
        if counts.pending == 0, counts.running == 0, isListed || counts.devices == 0 { isSwept = true }
    }
}
