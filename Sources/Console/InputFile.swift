import Glibc

/// Files that a person names on the command line, read whole.
package enum InputFile {
    /// The bytes of the file; `-` is standard input.
    ///
    /// - Parameter limit: the longest file accepted, in bytes; a longer one is exit 65.
    package static func read(_ path: String, limit: Int = 64 << 20) throws(Failure) -> [UInt8] {
        try read(path, limit: limit, inspecting: nil)
    }

    /// The file as text; exit 65 when it is not UTF-8.
    package static func text(_ path: String, limit: Int = 64 << 20) throws(Failure) -> String {
        guard let text = String(validating: try read(path, limit: limit), as: UTF8.self) else { throw .data("\(path): not UTF-8 text") }
        return text
    }

    /// A value given as `TEXT` or as `@FILE`.
    package static func textOrFile(_ word: String, limit: Int = 64 << 20) throws(Failure) -> String {
        word.hasPrefix("@") ? try text(String(word.dropFirst()), limit: limit) : word
    }

    static func read(_ path: String, limit: Int, inspecting inspect: ((stat) -> Failure?)?) throws(Failure) -> [UInt8] {
        let name = path == "-" ? "standard input" : path
        let descriptor = path == "-" ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor != -1 else { throw .errno(errno, name) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw .errno(errno, name) }
        guard info.st_mode & S_IFMT != S_IFDIR else { throw .data("\(name): is a directory") }
        if let failure = inspect?(info) { throw failure }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw .errno(errno, name)
            }
            guard bytes.count + count <= limit else { throw .data("\(name): longer than \(limit) bytes") }
            bytes.append(contentsOf: chunk[..<count])
        }
    }
}

/// Files with secrets in them. What is read never appears in an error.
package enum SecretFile {
    /// A private key's bytes; refused with exit 77 when others may read the file, as ssh does.
    package static func key(_ path: String) throws(Failure) -> [UInt8] {
        try InputFile.read(path, limit: 1 << 20) { info in
            isOpenToOthers(info) ? .notPermitted("\(path): others may read this key", "run chmod 600 \(path)") : nil
        }
    }

    /// The first line, trimmed, that is neither empty nor a `#` comment; refused with exit 77 when others may read the file.
    package static func line(_ path: String) throws(Failure) -> String {
        guard let line = firstLine(try key(path)) else { throw .data("\(path): no key in it") }
        return line
    }

    /// Whether anybody but the owner may touch the file. A service's files belong to root, and its group may read them: that is in order.
    private static func isOpenToOthers(_ info: stat) -> Bool {
        guard info.st_mode & S_IFMT == S_IFREG else { return false }
        return info.st_mode & 0o037 != 0 || (info.st_mode & 0o040 != 0 && info.st_uid != 0)
    }

    /// The first line of the file that is neither empty nor a `#` comment; a warning when others may read it.
    package static func connectionString(_ path: String, role: String) throws(Failure) -> String {
        let bytes = try InputFile.read(path, limit: 64 << 10) { info in
            if isOpenToOthers(info) {
                Output.warn(role: role, "\(path): others may read this secret: run chmod 600 \(path)")
            }
            return nil
        }
        guard let line = firstLine(bytes) else { throw .data("\(path): no connection string in it") }
        return line
    }

    private static func firstLine(_ bytes: [UInt8]) -> String? {
        for line in String(validating: bytes, as: UTF8.self)?.split(whereSeparator: \.isNewline) ?? [] {
            let trimmed = line.drop(while: \.isWhitespace)
            guard let last = trimmed.lastIndex(where: { !$0.isWhitespace }), !trimmed.hasPrefix("#") else { continue }
            return String(trimmed[...last])
        }
        return nil
    }
}
