import Glibc

/// A tool that has nothing to do but wait.
enum Pause {
    /// A signal may end it early.
    static func milliseconds(_ count: Int) {
        var time = timespec(tv_sec: count / 1000, tv_nsec: count % 1000 * 1_000_000)
        nanosleep(&time, nil)
    }
}
