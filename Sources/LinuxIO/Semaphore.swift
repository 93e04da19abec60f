import CLinux
import Glibc

/// A counting semaphore of POSIX, which lives as long as its owner.
package final class Semaphore: @unchecked Sendable {  // sem_t is made for use by many threads
    private let storage = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    package init() { sem_init(storage, 0, 0) }

    deinit {
        sem_destroy(storage)
        storage.deallocate()
    }

    /// Lets one waiter go on.
    package func signal() { sem_post(storage) }
    /// Waits until there is a signal for the caller.
    package func wait() { while sem_wait(storage) != 0 {} }

    /// Waits for a signal, at most until `milliseconds` have passed; false when none came.
    package func wait(milliseconds: Int) -> Bool { clx_semaphore_wait(storage, UInt32(clamping: milliseconds)) == 0 }
}
