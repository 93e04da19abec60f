import Glibc

/// Whose a file is. What root does in somebody's directory leaves that person's files.
struct Owner {
    private let user: uid_t
    private let group: gid_t

    /// Nil when it cannot be told.
    init?(of path: String) {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        user = info.st_uid
        group = info.st_gid
    }

    /// Makes a file theirs, if this process may.
    func take(_ path: String) {
        guard geteuid() == 0 else { return }
        _ = lchown(path, user, group)
    }
}
