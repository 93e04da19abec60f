import Console
import Glibc
import LinuxIO

/// Held for as long as a role runs in a state directory, so that no second one does.
package final class RoleLock {
    private let lock: FileLock

    /// - Parameter role: the role as the message names it: `hub`.
    package init(_ path: String, of role: String, in directory: String) throws(Failure) {
        do throws(SystemError) {
            lock = try FileLock(path)
        } catch {
            if error.number == EWOULDBLOCK {
                throw .tryAgain("\(directory): another \(role) runs here", "stop it, or give another --state")
            }
            throw .errno(error.number, path)
        }
    }
}
