import Glibc
import LinuxIO

/// A small text file that people edit and several processes of ours add to.
package struct LineFile {
    let path: String
    /// The longest file read, in bytes.
    static let limit = 4 << 20

    /// Its lines, without their ends; nil when there is no such file. Bytes that are not UTF-8 become replacement characters, which no
    /// rule takes.
    func lines() throws(SystemError) -> [String]? {
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try Files.read(path, limit: Self.limit) } catch {
            if error.number == ENOENT { return nil }
            throw error
        }
        return Self.split(bytes)
    }

    /// The lines of a file, without their ends: LF or CR LF (a CR LF is one Character: text cannot be split at its LFs).
    package static func split(_ bytes: [UInt8]) -> [String] {
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
            String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
        }
        if lines.last == "" { lines.removeLast() }
        return lines
    }

    /// Replaces the lines by what `change` makes of them; nil leaves the file as it is. Nobody else of ours changes it meanwhile, and a
    /// reader sees all of the old or all of the new. Makes the file (0600) and its directory (0700) where they are missing.
    func edit(isDurable: Bool = true, _ change: ([String]) -> [String]?) throws(SystemError) {
        let place = resolved
        let folder = place.lastIndex(of: "/").map { $0 == place.startIndex ? "/" : String(place[..<$0]) } ?? "."
        try Files.makeDirectory(folder)
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemError("open") }
        let lock = OwnedDescriptor(adopting: descriptor)  // the file itself changes its inode
        while flock(lock.raw, LOCK_EX) != 0 { guard errno == EINTR else { throw SystemError("flock") } }
        guard let changed = change(try LineFile(path: place).lines() ?? []) else { return }
        let old = Files.stamp(place), owner = Owner(of: old == nil ? folder : place)
        let mode = old.map { mode_t($0.mode & 0o777) } ?? 0o600
        try Files.replace(place, with: Array(changed.map { $0 + "\n" }.joined().utf8), mode: mode, isDurable: isDurable)
        owner?.take(place)
    }

    /// Where the file itself is, when its name is a link to it.
    private var resolved: String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }
}
