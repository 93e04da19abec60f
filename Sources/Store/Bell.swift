import Glibc
import LinuxIO

/// A fifo by which a tool tells the hub that the change log has grown. A hint only: the hub looks every second anyway.
package enum Bell {
    /// Rings; a bell that is absent, full or heard by nobody is as good.
    package static func ring(_ paths: RuntimePaths) {
        let raw = open(paths.bell, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
        guard raw >= 0 else { return }
        let descriptor = OwnedDescriptor(adopting: raw)
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0, status.st_mode & S_IFMT == S_IFIFO else { return }
        var byte: UInt8 = 1
        _ = write(descriptor.raw, &byte, 1)
    }

    /// Hangs the bell up for the hub: a descriptor to poll, and to silence when it rings.
    ///
    /// The run directory must be there. The fifo is open for writing too, so it never reports an end.
    package static func hang(_ paths: RuntimePaths) throws(StoreError) -> OwnedDescriptor {
        unlink(paths.bell)
        guard mkfifo(paths.bell, 0o600) == 0 else { throw StoreError(errno, "mkfifo", path: paths.bell) }
        let descriptor = open(paths.bell, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { throw StoreError(errno, "open", path: paths.bell) }
        return OwnedDescriptor(adopting: descriptor)
    }

    /// Reads the bell empty.
    package static func silence(_ bell: borrowing OwnedDescriptor) {
        let raw = bell.raw
        withUnsafeTemporaryAllocation(byteCount: 512, alignment: 1) { buffer in
            while read(raw, buffer.baseAddress, buffer.count) == buffer.count {}
        }
    }
}
