import CLinux
import Synchronization

/// The part of a reactor that other threads may hold: work sent to it runs on the reactor's thread, in order.
///
/// Also a task executor, so that control-plane tasks can run on the loop; connections themselves are not tasks.
package final class Mailbox: TaskExecutor {
    enum Letter: Sendable {
        case call(@Sendable (Reactor) -> Void)
        case job(UnownedJob)
    }

    private let letters = Mutex<[Letter]?>([])  // nil once the reactor has ended
    let bell: OwnedDescriptor

    init() throws(SystemError) {
        bell = OwnedDescriptor(adopting: try checked(clx_eventfd(), "eventfd"))
    }

    private func post(_ letter: Letter) -> Bool {
        let count = letters.withLock { waiting in
            waiting?.append(letter)
            return waiting?.count
        }
        guard let count else { return false }
        if count == 1 { clx_eventfd_ring(bell.raw) }
        return true
    }

    func collect(isLast: Bool = false) -> [Letter] {
        clx_eventfd_clear(bell.raw)
        return letters.withLock { waiting in exchange(&waiting, with: isLast ? nil : []) } ?? []
    }

    /// False when the reactor has ended; the work, and whatever it carried, is then dropped.
    @discardableResult
    package func send(_ work: @escaping @Sendable (Reactor) -> Void) -> Bool { post(.call(work)) }

    /// Runs `work` on the reactor and waits for its result; nil when the reactor has ended.
    package func call<Result: Sendable>(_ work: @escaping @Sendable (Reactor) -> Result) async -> Result? {
        await withCheckedContinuation { waiter in
            if !send({ waiter.resume(returning: work($0)) }) { waiter.resume(returning: nil) }
        }
    }

    package func enqueue(_ job: consuming ExecutorJob) {  // a task must go on somewhere, even after the end
        let job = UnownedJob(job)
        if !post(.job(job)) { globalConcurrentExecutor.enqueue(job) }
    }
}
