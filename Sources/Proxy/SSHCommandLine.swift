import Wire

/// The words with which ssh is started.
struct SSHCommandLine: Equatable, Sendable {
    /// What comes before the `@`; nil when ssh is to choose.
    let user: String?
    let device: String

    /// `[USER@]DEVICE`. As with ssh itself the last `@` counts.
    init(destination: String) {
        guard let at = destination.utf8.lastIndex(of: UInt8(ascii: "@")), at != destination.startIndex else {
            user = nil
            device = destination
            return
        }
        user = String(destination[..<at])
        device = String(destination[destination.utf8.index(after: at)...])
    }

    /// - Parameters:
    ///   - executable: path of this program.
    ///   - options: for its `connect`: names and values, no secrets.
    ///   - remote: the port, or the agent's name for it; nil: the port that ssh is told.
    ///   - arguments: ssh's own.
    func words(executable: String, options: [String], remote: String?, arguments: [String]) -> [String] {
        let command = [executable, "connect"] + options + ["--", device] + (remote.map { [$0] } ?? [])
        // ssh replaces %-sequences, then the user's shell takes the line apart.
        let line = command.map(Self.quoted).joined(separator: " ").replacingEach("%", by: "%%") + (remote == nil ? " %p" : "")
        var words = ["ssh", "-o", "ProxyCommand=\(line)", "-o", "HostKeyAlias=\(alias)"]
        if let user { words += ["-l", user] }
        return words + [host] + arguments
    }

    /// The device's id as ssh may see it: it refuses hosts with characters of the shell's, and known_hosts has its own special ones.
    var alias: String {
        var text = ""
        for byte in device.utf8 {
            if Self.isPlain(byte) {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "_" + Hex.encode([byte])
            }
        }
        return text
    }

    /// What ssh is told to connect to, and looks up in its configuration: the id itself wherever possible.
    private var host: String { alias.utf8.first == UInt8(ascii: "-") ? "_" + alias : alias }

    private static func isPlain(_ byte: UInt8) -> Bool {
        ASCII.isDigit(byte) || ASCII.lowercased(byte) &- 0x61 < 26 || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
            || byte == UInt8(ascii: "_")
    }

    /// The word for a shell of any kind: as it is when nothing in it is special, else between single quotes.
    static func quoted(_ word: String) -> String {
        let isHarmless = word.utf8.allSatisfy {
            isPlain($0) || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: "=")
        }
        if isHarmless, !word.isEmpty { return word }
        return "'" + word.replacingEach("'", by: "'\\''") + "'"
    }
}

extension String {
    fileprivate func replacingEach(_ character: Character, by text: String) -> String {
        var result = ""
        for each in self { if each == character { result += text } else { result.append(each) } }
        return result
    }
}
