import Glibc
import LinuxIO
import TLS

/// A file with one private key: PEM, for its owner's eyes only.
struct KeyFile {
    let path: String
    /// What to do about a file without a usable key.
    var remedy = "bring the key back from a backup, or move the file away to have a new key made"
    private static let limit = 1 << 20

    /// The key; nil when there is no such file.
    /// Throws when others may read it, as ssh does, and when no usable key is in it.
    func read() throws(TrustError) -> PrivateKey? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw TrustError(SystemError("open"), path)
        }
        let file = OwnedDescriptor(adopting: descriptor)
        var info = stat()
        guard fstat(file.raw, &info) == 0 else { throw TrustError(SystemError("fstat"), path) }
        guard info.st_mode & S_IFMT != S_IFDIR else { throw TrustError(SystemError("read", EISDIR), path) }
        if Self.isOpenToOthers(info) {
            throw TrustError(.openToOthers, "\(path): others may read this key", "run chmod 600 \(path)")
        }
        var pem: [UInt8]
        do throws(SystemError) { pem = try Files.readAll(file, limit: Self.limit) } catch { throw TrustError(error, path) }
        defer { CredentialFile.wipe(&pem) }
        do throws(CertificateError) { return try PrivateKey(pem: pem) } catch {
            let remedy = error == .encryptedKey ? "take it off with openssl pkey, and keep the file at mode 0600" : remedy
            throw TrustError(.malformed, "\(path): \(error)", remedy)
        }
    }

    /// A service's key may belong to root and be readable by the group of whoever runs it.
    private static func isOpenToOthers(_ info: stat) -> Bool {
        guard info.st_mode & S_IFMT == S_IFREG else { return false }
        let isLent = info.st_uid == 0 && geteuid() != 0
        return info.st_mode & (isLent ? 0o037 : 0o077) != 0
    }

    /// The key, made first when there is none.
    func readOrMake() throws(TrustError) -> PrivateKey {
        if let key = try read() { return key }
        try make()
        guard let key = try read() else { throw TrustError(.system(ENOENT), "\(path): it has been removed again") }
        return key
    }

    /// Writes a new key beside and gives it the name unless somebody was faster; then theirs it is.
    private func make() throws(TrustError) {
        let beside = "\(path).\(String(UInt64.random(in: 0 ... .max), radix: 36)).new"
        var pem: [UInt8]
        do throws(CertificateError) { pem = try PrivateKey(generating: .p256).pem() } catch { throw TrustError(.system(EIO), "\(error)") }
        defer { CredentialFile.wipe(&pem) }
        do throws(SystemError) {
            let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
            try Files.makeDirectory(folder)
            defer { Files.remove(beside) }
            try Files.create(beside, with: pem, mode: 0o600)
            Owner(of: folder)?.take(beside)
            if link(beside, path) != 0 {
                switch errno {
                case EEXIST: return
                case EPERM, EOPNOTSUPP, ENOSYS, EMLINK: try Files.create(path, with: pem, mode: 0o600)  // no hard links here
                default: throw SystemError("link")
                }
            }
            try Files.syncDirectory(of: path)
        } catch {
            if error.number == EEXIST { return }
            throw TrustError(error, "cannot make the key \(path)", "name another directory")
        }
    }
}
