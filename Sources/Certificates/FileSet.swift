import Console
import Glibc

/// One file to be written.
struct NewFile {
    /// Inside the directory; it may begin with that of a directory there.
    var name: String
    var contents: [UInt8]
    /// Permission bits; the file has them from its first instant.
    var mode: mode_t
    /// Owner and group to keep, where this process may set them.
    var owner: (user: uid_t, group: gid_t)?

    static func key(_ name: String, _ pem: [UInt8]) -> NewFile { NewFile(name: name, contents: pem, mode: 0o600) }
    static func certificate(_ name: String, _ pem: String) -> NewFile { NewFile(name: name, contents: Array(pem.utf8), mode: 0o644) }
}

/// Files that are written together: either all of them are there afterwards, or what was there before.
///
/// Everything is written and synced beside its place first; links and renames put it there. Signals wait until it is done.
struct FileSet: ~Copyable {
    private let directory: String
    private let descriptor: CInt
    private let replacing: Bool
    private var files: [NewFile]
    /// What has been done so far, to be undone in reverse.
    private var placed: [(name: String, backup: String?)] = []
    private let tag: String

    /// - Parameter replacing: existing files give way; otherwise they are an error, exit 73.
    init(_ files: consuming [NewFile], in directory: String, replacing: Bool) throws(Failure) {
        let opened = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened != -1 else { throw .errno(errno, directory) }
        self.directory = directory
        self.replacing = replacing
        self.files = files
        tag = String(UInt64.random(in: .min ... .max), radix: 16)
        descriptor = opened
    }

    deinit { close(descriptor) }

    /// Writes them all, and wipes the copies in memory.
    consuming func write() throws(Failure) {
        var blocked = sigset_t()
        var before = sigset_t()
        sigemptyset(&blocked)
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] { sigaddset(&blocked, signal) }
        pthread_sigmask(SIG_BLOCK, &blocked, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        do throws(Failure) {
            for index in files.indices { try stage(index) }
            for index in files.indices { try place(index) }
        } catch {
            undo()
            cleanUp()
            throw error
        }
        let folders = Set(files.compactMap { file in file.name.lastIndex(of: "/").map { String(file.name[..<$0]) } })
        cleanUp()
        fsync(descriptor)
        for folder in folders {
            let inner = openat(descriptor, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            if inner != -1 {
                fsync(inner)
                close(inner)
            }
        }
    }

    private func staged(_ index: Int) -> String { ".iotstream-\(tag)-\(index).new" }
    private func path(_ name: String) -> String { directory == "." ? name : "\(directory)/\(name)" }

    private mutating func stage(_ index: Int) throws(Failure) {
        let file = files[index]
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let output = openat(descriptor, staged(index), flags, file.mode & 0o600)
        guard output != -1 else { throw cannotWrite(errno, file.name) }
        defer { close(output) }
        var offset = 0
        while offset < file.contents.count {
            let count = file.contents.withUnsafeBytes { Glibc.write(output, $0.baseAddress.map { $0 + offset }, $0.count - offset) }
            guard count >= 0 || errno == EINTR else { throw cannotWrite(errno, file.name) }
            offset += max(0, count)
        }
        if let owner = file.owner { _ = fchown(output, owner.user, owner.group) }
        guard fchmod(output, file.mode) == 0 || errno == EPERM, fsync(output) == 0 else { throw cannotWrite(errno, file.name) }
    }

    private mutating func place(_ index: Int) throws(Failure) {
        let (name, staged) = (files[index].name, staged(index))
        if replacing {
            var info = stat()
            let found = fstatat(descriptor, name, &info, AT_SYMLINK_NOFOLLOW) == 0
            guard !found || info.st_mode & S_IFMT != S_IFDIR else { throw cannotWrite(EISDIR, name) }
            let backup = ".iotstream-\(tag)-\(index).old"
            let kept =
                linkat(descriptor, name, descriptor, backup, 0) == 0
                || (errno != ENOENT && renameat(descriptor, name, descriptor, backup) == 0)
            if kept { placed.append((name, backup)) }
            guard renameat(descriptor, staged, descriptor, name) == 0 else { throw cannotWrite(errno, name) }
            if !kept { placed.append((name, nil)) }
            return
        }
        if linkat(descriptor, staged, descriptor, name, 0) == 0 {
            placed.append((name, nil))
            return
        }
        guard errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS else { throw cannotWrite(errno, name) }
        // A file system without hard links: claim the name with an empty file, then replace that.
        let claim = openat(descriptor, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard claim != -1 else { throw cannotWrite(errno, name) }
        close(claim)
        placed.append((name, nil))
        guard renameat(descriptor, staged, descriptor, name) == 0 else { throw cannotWrite(errno, name) }
    }

    private mutating func undo() {
        for (name, backup) in placed.reversed() {
            guard let backup else {
                _ = unlinkat(descriptor, name, 0)
                continue
            }
            _ = renameat(descriptor, backup, descriptor, name)
            _ = unlinkat(descriptor, backup, 0)  // still there when both names were one file: rename(2) then does nothing
        }
        placed = []
    }

    private mutating func cleanUp() {
        for index in files.indices {
            _ = unlinkat(descriptor, staged(index), 0)
            files[index].contents.withUnsafeMutableBytes { if let start = $0.baseAddress { explicit_bzero(start, $0.count) } }
        }
        for (_, backup) in placed { if let backup { _ = unlinkat(descriptor, backup, 0) } }
    }

    private func cannotWrite(_ code: CInt, _ name: String) -> Failure {
        switch code {
        case EEXIST: .cannotCreate("\(path(name)) is already there", "give --force to replace it, or another --dir")
        case ENAMETOOLONG: .data("\(path(name)): the file name is too long", "choose a shorter name")
        case ENOSPC, EDQUOT: .errno(code, path(name), "make room; nothing was changed")
        case EACCES, EPERM: .errno(code, path(name), "run it as the owner of \(directory), or name another directory with --dir")
        case EISDIR, ENOTEMPTY: .cannotCreate("\(path(name)) is a directory", "move it away, or name another directory with --dir")
        default: .errno(code, path(name))
        }
    }
}
