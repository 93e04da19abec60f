import Console
import Glibc
import Wire

/// A directory where a running hub or agent keeps one small JSON file for each thing that goes on.
enum StatusDirectory {
    /// The documents in it, by file name; none when nothing runs. Files that vanish or are half of nothing are passed over.
    ///
    /// - Parameter suffix: what the names of the files end in; it is left out of the result.
    static func documents(in path: String, suffix: String = "") throws(Failure) -> [(name: String, document: JSONValue)] {
        guard let directory = opendir(path) else {
            if errno == ENOENT { return [] }
            throw .errno(errno, path, errno == EACCES ? "run as the user that owns it, or with sudo" : "")
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix("."), !name.hasSuffix(".new"), name.hasSuffix(suffix) { names.append(name) }
        }
        return names.sorted().compactMap { name in
            guard let bytes = try? InputFile.read("\(path)/\(name)", limit: 1 << 20), let document = try? JSONValue.parse(bytes) else {
                return nil
            }
            return (String(name.dropLast(suffix.count)), document)
        }
    }

    /// The path of one of its files; an id that could lead elsewhere is refused.
    static func path(of id: String, in directory: String) throws(Failure) -> String {
        guard Identifier.isValidID(id), id != ".", id != ".." else { throw .data("\(id): not an identifier") }
        return "\(directory)/\(id)"
    }
}
