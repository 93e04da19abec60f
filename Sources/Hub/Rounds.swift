import LinuxIO
import Synchronization

/// Work that goes on in short rounds, on a thread of its own: whoever has something for it calls, and calls that come together are one.
final class Rounds: Sendable {
    private let worker: Worker
    private let isCalled = Atomic<Bool>(false)

    init() throws(SystemError) { worker = try Worker() }

    /// Has a round begin soon; from any thread.
    /// - Parameter round: true when there is more to do at once.
    func call(_ round: @escaping @Sendable () -> Bool) {
        guard !isCalled.exchange(true, ordering: .acquiringAndReleasing) else { return }
        worker.submit { [self] in
            isCalled.store(false, ordering: .releasing)
            if round() { call(round) }
        }
    }

    /// Ends the thread, after the round that was called for.
    func finish() { worker.finish() }
}
