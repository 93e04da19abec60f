import CLinux
import Glibc
import LinuxIO
import Wire

/// Appends lines to the newest file of a log's directory. Several processes may: each batch is written under a lock on the directory.
///
/// Lines are only ever appended (`O_APPEND`). One that a crash or a full disk has torn is closed with a line break before the next is
/// written, so it spoils nothing but itself.
package struct AuditAppender: ~Copyable {
    private let path: String
    private var current: (name: AuditName, inode: UInt64)?
    /// Of `current`; -1 for none.
    private var file: CInt = -1
    private var isSynced = true
    package var options: AuditOptions

    /// - Parameter path: of the directory, which is made with the first line.
    package init(at path: String, _ options: AuditOptions = AuditOptions()) {
        self.path = path
        self.options = options
    }

    deinit { if file >= 0 { close(file) } }

    /// What has happened to a batch.
    package struct Progress: Equatable {
        /// Bytes of whole lines that are in the file now.
        package var written: Int
        /// Why the others are not.
        package var failure: SystemError?
        /// A new file was begun: the oldest ones may go.
        package var hasRotated = false
    }

    /// Writes whole lines.
    package mutating func append(_ lines: [UInt8], now: Timestamp = .now) -> Progress {
        var progress = Progress(written: 0)
        do throws(SystemError) {
            let directory = try openDirectory()
            guard flock(directory.raw, LOCK_EX) == 0 else { throw SystemError("flock") }
            // The lock goes with the descriptor.
            progress.hasRotated = try choose(now: now)
            if try isTorn() { try Self.write([10], to: file) }
            isSynced = false
            progress.written = lines.count
            var done = 0
            do throws(SystemError) {
                try Self.write(lines, to: file, done: &done)
            } catch {
                progress.written = lines[..<done].lastIndex(of: 10).map { $0 + 1 } ?? 0
                progress.failure = error
            }
        } catch {
            progress.failure = error
        }
        return progress
    }

    /// Makes what was appended durable.
    package mutating func sync() {
        guard !isSynced, file >= 0 else { return }
        isSynced = true
        fdatasync(file)
    }

    /// Removes what is older or more than the options say.
    package func prune(now: Timestamp = .now) {
        var names = Self.names(in: path)
        guard let newest = names.popLast() else { return }
        let oldest = AuditName.day(of: Timestamp(seconds: now.seconds - Int64(options.days) * 86_400))
        var bytes = Files.stamp("\(path)/\(newest.file)")?.bytes ?? 0
        for name in names.reversed() {
            let size = Files.stamp("\(path)/\(name.file)")?.bytes ?? 0
            (bytes, _) = bytes.addingReportingOverflow(size)
            if name.day < oldest || bytes > Int64(options.totalBytes) { Files.remove("\(path)/\(name.file)") }
        }
    }

    /// The log's files, oldest first; none when the directory cannot be read.
    static func names(in path: String) -> [AuditName] { ((try? Files.names(in: path)) ?? []).compactMap(AuditName.init).sorted() }

    /// Opens the directory, and makes it if it is missing: for its owner alone, who is the owner of the directory above.
    private func openDirectory() throws(SystemError) -> OwnedDescriptor {
        var raw = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if raw < 0, errno == ENOENT {
            try Files.makeDirectory(path)
            Self.give(path, toOwnerOf: path + "/..")
            raw = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        }
        guard raw >= 0 else { throw SystemError("open") }
        return OwnedDescriptor(adopting: raw)
    }

    /// Takes the newest file, or a new one when it is full or of another day. True when it has begun one.
    private mutating func choose(now: Timestamp) throws(SystemError) -> Bool {
        let today = AuditName.day(of: now)
        guard let newest = Self.names(in: path).last else { return try begin(AuditName(day: today, number: 1)) }
        let stamp = Files.stamp("\(path)/\(newest.file)")
        if newest.day < today || (stamp?.bytes ?? 0) >= Int64(options.fileBytes), let next = newest.following(on: today) {
            return try begin(next)
        }
        if let current, current.name == newest, current.inode == stamp?.inode { return false }
        try take(newest, flags: 0)
        return false
    }

    private mutating func begin(_ name: AuditName) throws(SystemError) -> Bool {
        sync()
        try take(name, flags: O_CREAT | O_EXCL)
        Self.give("\(path)/\(name.file)", toOwnerOf: path)
        return true
    }

    private mutating func take(_ name: AuditName, flags: CInt) throws(SystemError) {
        let raw = Glibc.open("\(path)/\(name.file)", O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0o600)
        guard raw >= 0 else { throw SystemError("open") }
        sync()
        if file >= 0 { close(file) }
        file = raw
        current = (name, Files.stamp("\(path)/\(name.file)")?.inode ?? 0)
    }

    /// What root makes belongs to the user whose directory it is in, as the hub itself may not be root.
    private static func give(_ path: String, toOwnerOf above: String) {
        guard geteuid() == 0 else { return }
        var status = stat()
        guard stat(above, &status) == 0, status.st_uid != 0 else { return }
        _ = lchown(path, status.st_uid, status.st_gid)
    }

    /// Whether the file ends within a line.
    private func isTorn() throws(SystemError) -> Bool {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw SystemError("fstat") }
        guard status.st_size > 0 else { return false }
        var last: UInt8 = 10
        guard pread(file, &last, 1, status.st_size - 1) == 1 else { throw SystemError("read") }
        return last != 10
    }

    private static func write(_ bytes: [UInt8], to file: CInt) throws(SystemError) {
        var done = 0
        try write(bytes, to: file, done: &done)
    }

    private static func write(_ bytes: [UInt8], to file: CInt, done: inout Int) throws(SystemError) {
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError("write")
            }
            done += count
        }
    }
}
