import CLinux
import Glibc

/// Files that others read while we write them, and files that others wrote.
package enum Files {
    /// The whole file, at most `limit` bytes (a larger one is EFBIG).
    package static func read(_ path: String, limit: Int = 1 << 20) throws(SystemError) -> [UInt8] {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemError("open") }
        let file = OwnedDescriptor(adopting: descriptor)
        return try readAll(file, limit: limit)
    }

    /// Everything up to the end of a descriptor that blocks.
    package static func readAll(_ file: borrowing OwnedDescriptor, limit: Int) throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = Glibc.read(file.raw, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError("read")
            }
            guard bytes.count + count <= limit else { throw SystemError("read", EFBIG) }
            bytes.append(contentsOf: chunk[..<count])
        }
    }

    /// Writes beside, syncs and renames, so that a reader sees the old file or the new one, also after a power cut.
    package static func replace(_ path: String, with bytes: [UInt8], mode: mode_t = 0o644, isDurable: Bool = true) throws(SystemError) {
        let beside = path + ".new"
        do throws(SystemError) {
            let descriptor = Glibc.open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
            guard descriptor >= 0 else { throw SystemError("open") }
            let file = OwnedDescriptor(adopting: descriptor)
            fchmod(file.raw, mode)
            try writeAll(bytes, to: file)
            if isDurable, fsync(file.raw) != 0 { throw SystemError("fsync") }
            guard rename(beside, path) == 0 else { throw SystemError("rename") }
        } catch {
            unlink(beside)
            throw error
        }
        if isDurable { try syncDirectory(of: path) }
    }

    /// Writes a file that must not exist yet (EEXIST otherwise), with its mode from the first moment.
    package static func create(_ path: String, with bytes: [UInt8], mode: mode_t) throws(SystemError) {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)
        guard descriptor >= 0 else { throw SystemError("open") }
        let file = OwnedDescriptor(adopting: descriptor)
        do throws(SystemError) {
            fchmod(file.raw, mode)
            try writeAll(bytes, to: file)
            if fsync(file.raw) != 0 { throw SystemError("fsync") }
        } catch {
            unlink(path)
            throw error
        }
        try syncDirectory(of: path)
    }

    package static func writeAll(_ bytes: [UInt8], to file: borrowing OwnedDescriptor) throws(SystemError) {
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { write(file.raw, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError("write")
            }
            written += count
        }
    }

    /// Makes a directory and those above it; one that is there stays as it is.
    package static func makeDirectory(_ path: String, mode: mode_t = 0o700) throws(SystemError) {
        if mkdir(path, mode) == 0 || errno == EEXIST { return }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else { throw SystemError("mkdir") }
        try makeDirectory(String(path[..<slash]), mode: 0o755)
        guard mkdir(path, mode) == 0 || errno == EEXIST else { throw SystemError("mkdir") }
    }

    /// Makes a name in a directory durable.
    package static func syncDirectory(of path: String) throws(SystemError) {
        let parent = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = Glibc.open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemError("open") }
        let directory = OwnedDescriptor(adopting: descriptor)
        if fsync(directory.raw) != 0, errno != EINVAL { throw SystemError("fsync") }
    }

    /// Names in a directory without `.` and `..`, sorted.
    package static func names(in directory: String) throws(SystemError) -> [String] {
        guard let stream = opendir(directory) else { throw SystemError("opendir") }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Removes a file; one that is not there is as good.
    package static func remove(_ path: String) { unlink(path) }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Seconds and size of the last change, to notice a new version; nil when the file is not there.
    package static func stamp(_ path: String) -> FileStamp? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return FileStamp(
            device: UInt64(status.st_dev), inode: UInt64(status.st_ino), bytes: Int64(status.st_size),
            nanoseconds: Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec), mode: UInt32(status.st_mode))
    }
}

/// What tells one version of a file from the next.
package struct FileStamp: Equatable, Sendable {
    package let device, inode: UInt64
    package let bytes, nanoseconds: Int64
    /// Type and permission bits, as `stat` has them.
    package let mode: UInt32
}

/// An exclusive lock that ends with the process: one hub, or one agent, to a directory.
package struct FileLock: ~Copyable {
    private let file: OwnedDescriptor

    /// EWOULDBLOCK when another process holds it.
    package init(_ path: String) throws(SystemError) {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError("open") }
        let file = OwnedDescriptor(adopting: descriptor)
        guard flock(file.raw, LOCK_EX | LOCK_NB) == 0 else { throw SystemError("flock") }
        self.file = file
    }

    // Said, as a child that has not yet come to its exec has the descriptor too, and to close this one would not be enough.
    deinit { flock(file.raw, LOCK_UN) }
}
