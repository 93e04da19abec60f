import CLinux
import Synchronization

/// The part of a reactor that other threads may hold: work sent to it runs on the reactor's thread, in order.
///
/// Work is a closure and never a task: without tasks the executable holds no task runtime, which is half a megabyte.
package final class Mailbox: Sendable {
    typealias Letter = @Sendable (Reactor) -> Void

    private let letters = Mutex<[Letter]?>([])  // nil once the reactor has ended
    let bell: OwnedDescriptor

    init() throws(SystemError) {
        bell = OwnedDescriptor(adopting: try checked(clx_eventfd(), "eventfd"))
    }

    func collect(isLast: Bool = false) -> [Letter] {
        clx_eventfd_clear(bell.raw)
        return letters.withLock { waiting in exchange(&waiting, with: isLast ? nil : []) } ?? []
    }

    /// False when the reactor has ended; the work, and whatever it carried, is then dropped.
    @discardableResult
    package func send(_ work: @escaping @Sendable (Reactor) -> Void) -> Bool {
        let count = letters.withLock { waiting in
            waiting?.append(work)
            return waiting?.count
        }
        guard let count else { return false }
        if count == 1 { clx_eventfd_ring(bell.raw) }
        return true
    }
}
