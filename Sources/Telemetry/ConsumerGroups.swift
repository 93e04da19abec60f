import Bytes
import Glibc
import LinuxIO

/// Named consumers of a log and how far each has come: a directory for each group, in it a file for each partition with the offset and
/// the sequence number of the first record that is not yet handled, in one line of text.
///
/// Any process may use them; each call blocks on the disk. Names differ by more than the case of their letters.
package struct ConsumerGroups: Sendable {
    /// The group that is always there.
    package static let standard = "$Default"
    package static let longestName = 50

    private let path: String
    private let partitions: Int

    package init(_ directory: LogDirectory) {
        path = "\(directory.path)/groups"
        partitions = directory.partitions
    }

    /// All groups' names, sorted, `$Default` first.
    package func list() throws(TelemetryError) -> [String] {
        guard Files.exists(path) else { return [Self.standard] }
        let names = try at(path) { () throws(SystemError) in try Files.names(in: path) }
        return [Self.standard] + names.filter { $0 != Self.standard && Self.isName($0) }
    }

    /// A group's name as it was created, whatever the case of the letters it is asked with.
    package func name(like name: String) throws(TelemetryError) -> String {
        try check(name)
        guard let found = try list().first(where: { $0 == name || $0.lowercased() == name.lowercased() }) else { throw .noSuchGroup(name) }
        return found
    }

    /// Makes a group, which begins without positions.
    package func create(_ name: String) throws(TelemetryError) {
        try check(name)
        guard try !list().contains(where: { $0.lowercased() == name.lowercased() }) else { throw .groupExists(name) }
        let directory = "\(path)/\(name)"
        try at(directory) { () throws(SystemError) in
            try makeTop()
            guard mkdir(directory, 0o750) == 0 else { throw SystemError("mkdir") }
            try Files.syncDirectory(of: directory)
        }
    }

    /// Removes a group and its positions.
    package func delete(_ name: String) throws(TelemetryError) {
        let name = try self.name(like: name)
        guard name != Self.standard else { throw .groupStays(name) }
        let directory = "\(path)/\(name)", aside = "\(path)/.\(name).removed"
        try at(directory) { () throws(SystemError) in
            try Self.removeDirectory(aside)
            guard rename(directory, aside) == 0 else { throw SystemError("rename") }
            try Files.syncDirectory(of: directory)
            try Self.removeDirectory(aside)
        }
    }

    /// Where a group goes on in a partition; nil where it has committed nothing yet.
    package func position(of name: String, in partition: Int) throws(TelemetryError) -> TelemetryPosition? {
        let file = try file(try self.name(like: name), partition)
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try Files.read(file, limit: 256) } catch {
            if error.number == ENOENT { return nil }
            throw TelemetryError(error, file)
        }
        guard let position = Self.parse(bytes.span.bytes) else { throw .notALog(path: file, reason: "no position") }
        return position
    }

    /// Remembers where a group goes on in a partition. It is durable when this returns.
    package func commit(_ position: TelemetryPosition, of name: String, in partition: Int) throws(TelemetryError) {
        let name = try self.name(like: name)
        let file = try file(name, partition)
        try at(file) { () throws(SystemError) in
            if name == Self.standard {
                try makeTop()
                if mkdir("\(path)/\(name)", 0o750) == 0 { try Files.syncDirectory(of: "\(path)/\(name)") }
            }
            // Two that commit at once would write to one new file.
            let directory = try PlainFile.open("\(path)/\(name)", O_RDONLY | O_DIRECTORY)
            while flock(directory.raw, LOCK_EX) != 0 {
                guard errno == EINTR else { throw SystemError("flock") }
            }
            try Files.replace(file, with: Array("\(position.offset) \(position.sequence)\n".utf8), mode: 0o640)
        }
    }

    /// `OFFSET SEQUENCE` in decimal, then the end of the line; nil for anything else.
    package static func parse(_ bytes: RawSpan) -> TelemetryPosition? {
        guard let text = bytes.toString(), text.utf8.last == UInt8(ascii: "\n") else { return nil }
        let words = Substring(text.utf8.dropLast()).split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 2, words.allSatisfy({ $0.utf8.allSatisfy { 48...57 ~= $0 } }), let offset = UInt64(words[0]),
            let sequence = UInt64(words[1]), offset <= 1 << 62, offset % 8 == 0, sequence <= 1 << 62
        else { return nil }
        return TelemetryPosition(offset: offset, sequence: sequence)
    }

    private func file(_ name: String, _ partition: Int) throws(TelemetryError) -> String {
        guard 0..<partitions ~= partition else { throw .noSuchPartition(partition) }
        return "\(path)/\(name)/\(partition)"
    }

    private func makeTop() throws(SystemError) {
        guard !Files.exists(path) else { return }
        try Files.makeDirectory(path, mode: 0o750)
        try Files.syncDirectory(of: path)
    }

    private func check(_ name: String) throws(TelemetryError) {
        guard name.lowercased() == Self.standard.lowercased() || Self.isName(name) else { throw .badGroupName(name) }
    }

    private static func isName(_ name: String) -> Bool {
        let codes = Array(name.utf8)
        func isAlphanumeric(_ code: UInt8) -> Bool { 48...57 ~= code || 65...90 ~= code || 97...122 ~= code }
        guard let first = codes.first, let last = codes.last, codes.count <= longestName, isAlphanumeric(first), isAlphanumeric(last)
        else { return false }
        return codes.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-") }
    }

    private static func removeDirectory(_ directory: String) throws(SystemError) {
        guard Files.exists(directory) else { return }
        for name in try Files.names(in: directory) { Files.remove("\(directory)/\(name)") }
        guard rmdir(directory) == 0 else { throw SystemError("rmdir") }
    }
}
