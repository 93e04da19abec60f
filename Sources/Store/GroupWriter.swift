import CLinux
import Glibc
import LinuxIO
import Synchronization

/// One thread that batches the writes of all others into one transaction and one commit.
///
/// A commit waits for the disk; the jobs that arrive meanwhile share the next one.
package final class GroupWriter: Sendable {
    /// Jobs of one commit at the most: other processes want to write too.
    package static let largestBatch = 256

    private let store: Store
    private let bell: OwnedDescriptor
    private let waiting = Mutex(Waiting())
    private let committed = Atomic<Int>(0)
    private let batches = Atomic<Int>(0)
    private let thread = Mutex<Thread?>(nil)

    private struct Waiting: ~Copyable {
        var jobs: [any PendingJob] = []
        var isClosed = false
    }

    package init(_ store: Store) throws(StoreError) {
        self.store = store
        let raw = clx_eventfd()
        guard raw >= 0 else { throw StoreError(-raw, "eventfd", path: store.path) }
        bell = OwnedDescriptor(adopting: raw)
        do {
            let started = try Thread.start { [self] in run() }
            thread.withLock { $0 = started }
        } catch { throw StoreError(error.number, error.call, path: store.path) }
    }

    /// Jobs and commits so far.
    package var statistics: (jobs: Int, commits: Int) {
        (committed.load(ordering: .relaxed), batches.load(ordering: .relaxed))
    }

    /// Queues a write, from any thread, and returns at once.
    ///
    /// - Parameter job: runs on the writer's thread, perhaps more than once; when it throws, its changes are undone and
    ///   those of its neighbours are not.
    /// - Parameter completion: is called on the writer's thread, after the commit when the job went well.
    package func submit<Result: Sendable, Failure: StoreFailure>(
        _ job: @escaping @Sendable (borrowing WriteTransaction) throws(Failure) -> Result,
        completion: @escaping @Sendable (Swift.Result<Result, Failure>) -> Void
    ) {
        let pending = Pending(job: job, completion: completion)
        let isTaken = waiting.withLock { waiting in
            guard !waiting.isClosed else { return false }
            waiting.jobs.append(pending)
            return true
        }
        if isTaken {
            clx_eventfd_ring(bell.raw)
        } else {
            pending.finish(.failed(path: store.path, operation: "write", reason: "shutting down"))
        }
    }

    /// Takes no more jobs, does those that wait, and ends the thread. Not to be called from a job.
    package func close() {
        waiting.withLock { $0.isClosed = true }
        clx_eventfd_ring(bell.raw)
        thread.withLock { $0.take() }?.join()
    }

    private func run() {
        while true {
            let (batch, isClosed) = waiting.withLock { waiting in
                let batch = Array(waiting.jobs.prefix(Self.largestBatch))
                waiting.jobs.removeFirst(batch.count)
                return (batch, waiting.isClosed)
            }
            if batch.isEmpty {
                if isClosed { return }
                var descriptor = pollfd(fd: bell.raw, events: Int16(POLLIN), revents: 0)
                poll(&descriptor, 1, -1)
                clx_eventfd_clear(bell.raw)
            } else {
                commit(batch)
            }
        }
    }

    /// Runs the jobs in one transaction. A job that fails before it wrote leaves no trace; one that fails later
    /// makes the others start over without it.
    private func commit(_ batch: [any PendingJob]) {
        var failure: StoreError?
        var isDone = false
        while !isDone {
            do {
                try store.write { transaction throws(BatchStop) in
                    for job in batch where !job.isLeftOut { try Self.run(job, transaction) }
                }
                isDone = true
            } catch {
                guard case .store(let reason) = error else { continue }
                failure = reason
                isDone = true
            }
        }
        committed.wrappingAdd(batch.count, ordering: .relaxed)
        batches.wrappingAdd(1, ordering: .relaxed)
        for job in batch { job.finish(failure) }
    }

    private static func run(_ job: any PendingJob, _ transaction: borrowing WriteTransaction) throws(BatchStop) {
        let before = transaction.changes
        if job.run(transaction) { return }
        if let failure = transaction.failure { throw .store(failure) }
        guard transaction.changes == before else {
            job.leaveOut()
            throw .startOver
        }
    }
}

/// Why a batch did not reach its commit.
private enum BatchStop: StoreFailure {
    case store(StoreError), startOver

    init(store error: StoreError) { self = .store(error) }
}

/// A job whose types the writer need not know.
private protocol PendingJob: AnyObject, Sendable {
    /// The job failed after it had written: it runs no more, and its error stands.
    var isLeftOut: Bool { get }
    func leaveOut()
    /// Runs the job, keeps its outcome, and tells whether it went well.
    func run(_ transaction: borrowing WriteTransaction) -> Bool
    /// Tells the outcome, or `failure` when the commit went wrong and the job had not failed by itself.
    func finish(_ failure: StoreError?)
}

/// Unchecked Sendable: used by whoever submits it, then by the writer's thread alone.
private final class Pending<Output: Sendable, Failure: StoreFailure>: PendingJob, @unchecked Sendable {
    private let job: @Sendable (borrowing WriteTransaction) throws(Failure) -> Output
    private let completion: @Sendable (Result<Output, Failure>) -> Void
    private var outcome: Result<Output, Failure>?
    private(set) var isLeftOut = false

    init(
        job: @escaping @Sendable (borrowing WriteTransaction) throws(Failure) -> Output,
        completion: @escaping @Sendable (Result<Output, Failure>) -> Void
    ) {
        self.job = job
        self.completion = completion
    }

    func leaveOut() { isLeftOut = true }

    func run(_ transaction: borrowing WriteTransaction) -> Bool {
        do {
            outcome = .success(try job(transaction))
            return true
        } catch {
            outcome = .failure(error)
            return false
        }
    }

    func finish(_ failure: StoreError?) {
        switch (outcome, failure) {
        case (.failure(let error)?, _) where isLeftOut: completion(.failure(error))
        case (_, let failure?): completion(.failure(Failure(store: failure)))
        case (let outcome?, nil): completion(outcome)
        case (nil, nil): completion(.failure(Failure(store: .failed(path: "", operation: "write", reason: "not run"))))
        }
    }
}
