import Glibc

/// A directory below another, in which files are opened by plain names: no name and no symbolic link leads out of it.
package struct ConfinedDirectory: ~Copyable {
    private let descriptor: OwnedDescriptor

    /// Goes down from `root`, one name after the other.
    ///
    /// - Parameters:
    ///   - root: a directory of our own.
    ///   - names: none of them empty, `.`, `..` or with a slash in it (EINVAL).
    ///   - creates: makes the directories that are missing, with mode 0700; otherwise ENOENT.
    package init(below root: String, _ names: [String], creates: Bool) throws(SystemError) {
        if creates { try Files.makeDirectory(root) }
        let top = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard top >= 0 else { throw SystemError("open") }
        var current = OwnedDescriptor(adopting: top)
        for name in names {
            try Self.check(name)
            if creates, mkdirat(current.raw, name, 0o700) != 0, errno != EEXIST { throw SystemError("mkdir") }
            let next = openat(current.raw, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
            guard next >= 0 else { throw SystemError("open") }
            current = OwnedDescriptor(adopting: next)
        }
        descriptor = current
    }

    private static func check(_ name: String) throws(SystemError) {
        guard !name.isEmpty, name != ".", name != "..", !name.utf8.contains(UInt8(ascii: "/")), !name.utf8.contains(0) else {
            throw SystemError("open", EINVAL)
        }
    }

    /// The whole of a regular file, at most `limit` bytes (EFBIG); EINVAL for anything that is no regular file.
    package func read(_ name: String, limit: Int) throws(SystemError) -> [UInt8] {
        try Self.check(name)
        let raw = openat(descriptor.raw, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard raw >= 0 else { throw SystemError("open") }
        let file = OwnedDescriptor(adopting: raw)
        var status = stat()
        guard fstat(file.raw, &status) == 0 else { throw SystemError("fstat") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw SystemError("open", EINVAL) }
        return try Files.readAll(file, limit: limit)
    }

    /// Writes a file beside and renames it, so that a reader sees the old one or the new one. `body` is handed a function that writes.
    ///
    /// - Parameter body: false: the file is not wanted any more, and the old one stays.
    package func replace(_ name: String, _ body: (borrowing OwnedDescriptor) throws(SystemError) -> Bool) throws(SystemError) {
        try Self.check(name)
        let beside = ".\(name).new"
        unlinkat(descriptor.raw, beside, 0)
        let raw = openat(descriptor.raw, beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { throw SystemError("open") }
        let file = OwnedDescriptor(adopting: raw)
        do throws(SystemError) {
            guard try body(file) else {
                unlinkat(descriptor.raw, beside, 0)
                return
            }
            if fsync(file.raw) != 0 { throw SystemError("fsync") }
            guard renameat(descriptor.raw, beside, descriptor.raw, name) == 0 else { throw SystemError("rename") }
            if fsync(descriptor.raw) != 0 { throw SystemError("fsync") }
        } catch {
            unlinkat(descriptor.raw, beside, 0)
            throw error
        }
    }

    /// Removes a file; one that is not there is as good.
    package func remove(_ name: String) { if (try? Self.check(name)) != nil { unlinkat(descriptor.raw, name, 0) } }
}
