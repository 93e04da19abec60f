import Console
import LinuxIO
import Registry
import Synchronization
import Wire

/// Works on scheduled jobs, on a thread beside the reactors: begins them when their time comes, goes from device to device in short
/// steps, and forgets them when they are long over (service-rest 14).
///
/// All that counts is in the registry: what is kept here is where each job's next step begins, and the calls that are under way.
final class JobDesk: Sendable {
    /// Jobs that are at work at a time; further ones are queued.
    static let mostAtWork = 10
    /// Calls of methods under way, of one job.
    static let mostCalls = 100
    /// How long a job is kept after its end.
    static let keptSeconds: Int64 = 30 * 86_400

    /// What this hub keeps of a job that is not over and done with.
    struct Place {
        var job: Job
        /// The last device that was taken; nil at the beginning.
        var last: String?
        var isExhausted = false
        /// Calls under way.
        var calls = 0
        var arrived: [(name: ClientIdentity, outcome: JobDevice.Outcome)] = []
    }

    private struct State: Sendable {
        var places: [String: Place] = [:]
        var nextCleaning = Timestamp.never
        var hasFailed = false
    }

    /// What other threads leave here.
    private struct Inbox: Sendable {
        var isStopping = false
        /// Jobs that were made or cancelled.
        var news: Set<String> = []
        /// Nobody knows which.
        var isStale = true
        var arrived: [(job: String, name: ClientIdentity, outcome: JobDevice.Outcome?)] = []
    }

    private let core: HubCore
    private let rounds: Rounds
    private let state = Mutex(State())
    private let inbox = Mutex(Inbox())
    private let nextMailbox = Atomic<Int>(0)

    init(core: HubCore) throws(SystemError) {
        self.core = core
        rounds = try Rounds()
    }

    /// A job was made or cancelled.
    func changed(_ job: String) {
        inbox.withLock { _ = $0.news.insert(job) }
        look()
    }

    /// Nobody knows which jobs were.
    func wake() {
        inbox.withLock { $0.isStale = true }
        look()
    }

    /// Has the desk look whether there is something to do; from any thread.
    func look() { rounds.call { [self] in turn() } }

    /// The hub is about to end: calls that find no answer from now on are made again by the next one.
    func stop() { inbox.withLock { $0.isStopping = true } }

    /// Ends the thread.
    func finish() { rounds.finish() }

    // MARK: - One round

    private func turn() -> Bool {
        let news = inbox.withLock { inbox in
            let news = inbox
            inbox.news.removeAll()
            inbox.isStale = false
            inbox.arrived.removeAll()
            return news
        }
        return state.withLock { state in
            for (job, name, outcome) in news.arrived {
                state.places[job]?.calls -= 1
                if let outcome { state.places[job]?.arrived.append((name, outcome)) }
            }
            guard !news.isStopping else { return !news.arrived.isEmpty && settleAll(&state) }
            do throws(RegistryError) {
                try read(news, into: &state)
                let hasMore = try round(&state)
                state.hasFailed = false
                return hasMore
            } catch {
                if !state.hasFailed { Log.error("jobs-stand-still", ["reason": error.description]) }
                state.hasFailed = true  // the next look tries again
                inbox.withLock { $0.isStale = true }
                return false
            }
        }
    }

    /// Learns of jobs that were made or cancelled.
    private func read(_ news: Inbox, into state: inout State) throws(RegistryError) {
        if news.isStale {
            let jobs = try core.registry.jobs { !$0.isSwept }
            state.places = Dictionary(
                jobs.map { job in
                    var place = state.places[job.id] ?? Place(job: job)
                    place.job = job
                    return (job.id, place)
                }, uniquingKeysWith: { one, _ in one })
            return
        }
        for id in news.news {
            do throws(RegistryError) {
                let job = try core.registry.job(id)
                state.places[id, default: Place(job: job)].job = job
                if job.isSwept { state.places[id] = nil }
            } catch {
                guard case .jobNotFound = error else { throw error }
                state.places[id] = nil
            }
        }
    }

    /// True when there is more to do at once.
    private func round(_ state: inout State) throws(RegistryError) -> Bool {
        let now = Timestamp.now
        var atWork = state.places.values.reduce(0) { $0 + ($1.job.status == .running ? 1 : 0) }
        var hasMore = false
        // The eldest first.
        for id in state.places.values.sorted(by: { $0.job.createdTime < $1.job.createdTime }).map(\.job.id) {
            guard var place = state.places[id] else { continue }
            let status = place.job.status
            defer { state.places[id] = place.job.isSwept ? nil : place }
            switch status {
            case .scheduled, .queued:
                guard place.job.startTime <= now else { continue }
                if atWork < Self.mostAtWork {
                    place.job = try commit(.begin(id)).job
                    Log.info("job-began", ["job": id])
                    atWork += 1
                    hasMore = true
                } else if status == .scheduled {
                    place.job = try commit(.queue(id)).job
                }
            case .running:
                do throws(RegistryError) {
                    if try work(on: &place, now: now) { hasMore = true }
                } catch {
                    if case .store = error { throw error }
                    place.job = try commit(.end(id, .failed, reason: error.message)).job
                    hasMore = true
                }
            case .completed, .failed, .cancelled:
                let step = try commit(.sweep(id))
                place.job = step.job
                if !step.isOver { hasMore = true }
            }
        }
        try clean(&state, now: now)
        return hasMore
    }

    /// Removes jobs that are long over; once an hour.
    private func clean(_ state: inout State, now: Timestamp) throws(RegistryError) {
        guard state.nextCleaning <= now else { return }
        state.nextCleaning = Timestamp(seconds: now.seconds + 3_600)
        let limit = Timestamp(seconds: now.seconds - Self.keptSeconds)
        for job in try core.registry.jobs(where: { $0.isSwept && ($0.endTime ?? now) < limit }) {
            while try !commit(.forget(job.id)).isOver {}
        }
    }

    // MARK: - One job

    /// One step of a job that is at work; true when the next can follow at once.
    private func work(on place: inout Place, now: Timestamp) throws(RegistryError) -> Bool {
        let id = place.job.id
        try settle(&place)
        if let deadline = place.job.deadline, deadline <= now {
            place.job = try commit(.end(id, .failed, reason: "The maximum execution time has passed.")).job
            return true
        }
        guard place.job.isListed else {
            place.job = try list(place.job)
            return true
        }
        switch place.job.work {
        case .updateTwin:
            let step = try commit(.updateTwins(id, after: place.last))
            core.lookForChanges()
            place.job = step.job
            place.last = step.last
            guard step.isOver else { return true }
        case .method(let request):
            let room = Self.mostCalls - place.calls
            if !place.isExhausted, room >= Self.mostCalls / 4 {
                let step = try commit(.claim(id, after: place.last, most: room))
                place.job = step.job
                place.last = step.last
                place.isExhausted = step.isOver
                place.calls += step.names.count
                for name in step.names { call(name, request, of: id) }
                if !step.isOver { return place.calls < Self.mostCalls }
            }
            guard place.isExhausted, place.calls == 0, place.arrived.isEmpty else { return false }
        }
        place.job = try commit(.end(id, .completed, reason: "")).job
        let counts = place.job.counts
        Log.info("job-ended", ["job": id, "devices": String(counts.devices), "failed": String(counts.failed)])
        return true
    }

    /// Finds the next devices that the job is for.
    private func list(_ job: Job) throws(RegistryError) -> Job {
        let core = self.core
        var run = try job.search(rows: 500) { core.directory.liveState($0) }
        let page = try run.wholePage(in: core.registry)
        let names = page.items.compactMap { item in
            item["deviceId"]?.string.flatMap { ClientIdentity(deviceID: $0, moduleID: item["moduleId"]?.string) }
        }
        return try commit(.list(job.id, names, next: page.continuation)).job
    }

    private func settle(_ place: inout Place) throws(RegistryError) {
        guard !place.arrived.isEmpty else { return }
        place.job = try commit(.settle(place.job.id, place.arrived)).job
        place.arrived.removeAll()
    }

    /// At the hub's end: notes what has come, and does nothing new.
    private func settleAll(_ state: inout State) -> Bool {
        for id in Array(state.places.keys) {
            guard var place = state.places[id] else { continue }
            try? settle(&place)
            state.places[id] = place
        }
        return false
    }

    /// Runs a command on the writer and waits for its commit.
    private func commit(_ command: JobCommand) throws(RegistryError) -> JobStep {
        guard let step = try core.perform(.job(command)).job else { throw .invalidOperation("a job's step has no outcome") }
        return step
    }

    // MARK: - Calls

    private func call(_ name: ClientIdentity, _ request: MethodRequest, of job: String) {
        let core = self.core
        let index = nextMailbox.wrappingAdd(1, ordering: .relaxed).newValue
        let isTaken = core.mailboxes[abs(index % core.mailboxes.count)].send { [self] reactor in
            MethodCall(request, to: name, core: core) { outcome, _ in self.arrived(outcome, name, of: job) }.begin(on: reactor)
        }
        if !isTaken { arrived(nil, name, of: job) }
    }

    private func arrived(_ outcome: MethodCall.Outcome?, _ name: ClientIdentity, of job: String) {
        inbox.withLock { inbox in
            if outcome == nil { inbox.isStopping = true }  // the reactors have ended
            var noted = outcome.map { JobDevice.Outcome($0) }
            if inbox.isStopping, case .answered? = outcome {} else if inbox.isStopping { noted = nil }
            inbox.arrived.append((job, name, noted))
        }
        look()
    }
}

extension JobDevice.Outcome {
    /// As a caller is told of a direct method.
    fileprivate init(_ outcome: MethodCall.Outcome) {
        switch outcome {
        case .answered(let status, let payload): self = .answered(status: status, payload: payload)
        case .notOnline: self = .failed(code: "DeviceNotOnline", description: "Timed out waiting for device to connect.")
        case .noAnswer: self = .failed(code: "GatewayTimeout", description: "Timed out waiting for the response from device.")
        case .badAnswer: self = .failed(code: "BadDeviceResponse", description: "The device's response is not JSON of 128 KB at most.")
        case .tooMany:
            self = .failed(code: "DeviceMaximumActiveMethodCallsExceeded", description: "The device has as many calls as it may have.")
        }
    }
}
