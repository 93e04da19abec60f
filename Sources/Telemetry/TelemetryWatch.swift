import CLinux
import Glibc
import LinuxIO

/// Tells a reader in another process that a log has grown: inotify on the partitions' marks.
package final class TelemetryWatch: Sendable {
    private let notify: OwnedDescriptor

    package init(_ directory: LogDirectory) throws(TelemetryError) {
        let notify = OwnedDescriptor(
            adopting: try at(directory.path) { () throws(SystemError) in try checked(clx_inotify(), "inotify_init1") })
        for number in 0..<directory.partitions {
            let mark = try directory.partition(number).mark
            guard inotify_add_watch(notify.raw, mark, UInt32(IN_MODIFY)) >= 0 else {
                throw TelemetryError(SystemError("inotify_add_watch"), mark)
            }
        }
        self.notify = notify
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
