import Glibc
import Synchronization

/// A directory by device and inode, so that two spellings of one path are one: LMDB's locks break when a process
/// opens the same environment twice.
struct FileIdentity: Hashable, Sendable {
    let device, inode: UInt64

    private static let open = Mutex<Set<FileIdentity>>([])

    /// Takes the directory for this process; nil when the process has it already.
    static func claim(_ path: String) throws(StoreError) -> FileIdentity? {
        let status = try status(of: path)
        let identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        return open.withLock { $0.insert(identity).inserted } ? identity : nil
    }

    func release() {
        _ = Self.open.withLock { $0.remove(self) }
    }

    static func status(of path: String) throws(StoreError) -> stat {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw errno == ENOENT ? .missing(path: path) : StoreError(errno, "stat", path: path)
        }
        return status
    }
}
