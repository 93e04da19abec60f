import Glibc
import Synchronization

/// Threads for work that may block: name resolution, files, commits. Answers go back by mailbox.
package final class Worker: Sendable {
    private struct Queue {
        var jobs: [@Sendable () -> Void] = []
        var isClosed = false
    }

    private let queue = Mutex(Queue())
    private let waiting: Semaphore
    private let threads: Mutex<[Thread]> = Mutex([])

    package init(threads count: Int = 1) throws(SystemError) {
        waiting = Semaphore()
        for _ in 0..<count {
            let thread = try Thread.start { [self] in run() }
            threads.withLock { $0.append(thread) }
        }
    }

    /// Runs `job` on one of the threads; false after `finish`.
    @discardableResult
    package func submit(_ job: @escaping @Sendable () -> Void) -> Bool {
        let isTaken = queue.withLock { queue in
            if !queue.isClosed { queue.jobs.append(job) }
            return !queue.isClosed
        }
        if isTaken { waiting.signal() }
        return isTaken
    }

    /// Lets the jobs that wait run to their end, then ends the threads.
    package func finish() {
        queue.withLock { $0.isClosed = true }
        let ending = threads.withLock { exchange(&$0, with: []) }
        for _ in ending { waiting.signal() }  // first for all: nobody knows which of them wakes up
        for thread in ending { thread.join() }
    }

    private func run() {
        while true {
            waiting.wait()
            let (job, isClosed) = queue.withLock { queue in (queue.jobs.isEmpty ? nil : queue.jobs.removeFirst(), queue.isClosed) }
            if let job { job() } else if isClosed { return }
        }
    }
}
