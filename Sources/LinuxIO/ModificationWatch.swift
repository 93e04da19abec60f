import CLinux
import Glibc

/// Tells somebody who reads files that another process writes that there is more to read (inotify).
package final class ModificationWatch: Sendable {
    private let notify: OwnedDescriptor

    /// - Parameter paths: files; or directories, for changes of any file in them and new ones.
    package init(_ paths: [String]) throws(SystemError) {
        notify = OwnedDescriptor(adopting: try checked(clx_inotify(), "inotify_init1"))
        for path in paths {
            guard inotify_add_watch(notify.raw, path, UInt32(IN_MODIFY | IN_CREATE)) >= 0 else { throw SystemError("inotify_add_watch") }
        }
    }

    /// Readable when something has changed; then `clear`, and read until there is nothing more.
    package var descriptor: CInt { notify.raw }

    package func clear() {
        var room = [UInt8](repeating: 0, count: 4096)
        while read(notify.raw, &room, room.count) > 0 {}
    }

    /// Waits until something has changed since the last wait, at most so long; false when nothing has, or a signal came.
    package func wait(milliseconds: Int) -> Bool {
        var descriptor = pollfd(fd: notify.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&descriptor, 1, CInt(clamping: milliseconds)) > 0 else { return false }
        clear()
        return true
    }
}
