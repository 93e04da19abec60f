import Glibc

/// Reading the files that hold certificates and keys.
package enum CredentialFile {
    /// The longest file read, in bytes; the bundle of all public roots has a quarter of a million.
    package static let limit = 4 << 20

    /// The whole file; `-` is standard input.
    /// Throws `unreadable`, also for a directory (EISDIR), and `tooLarge`.
    package static func read(_ path: String) throws(CertificateError) -> [UInt8] {
        if path == "-" { return try readAll(from: STDIN_FILENO, path: "standard input") }
        guard !path.utf8.contains(0) else { throw .unreadable(path: "file name", code: EINVAL) }
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
        guard file != -1 else { throw .unreadable(path: path, code: errno) }
        defer { close(file) }
        return try readAll(from: file, path: path)
    }

    private static func readAll(from file: CInt, path: String) throws(CertificateError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = chunk.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress, $0.count) }
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw .unreadable(path: path, code: errno)
            }
            guard bytes.count + count <= limit else { throw .tooLarge(limit: limit) }
            bytes.append(contentsOf: chunk[..<count])
        }
        wipe(&chunk)
        return bytes
    }

    /// Overwrites bytes that may have held a key.
    package static func wipe(_ bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { if let start = $0.baseAddress { explicit_bzero(start, $0.count) } }
    }
}
