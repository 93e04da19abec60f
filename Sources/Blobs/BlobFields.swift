import Bytes
import CLinux
import Glibc
import LinuxIO
import Wire

/// What a client says of a file besides its bytes and wants back with them: its type and the like, and metadata of its own
/// (`x-ms-blob-content-type`, `x-ms-meta-*` and so on). Kept in an extended attribute of the file, where the file system has such; it goes
/// where the file goes.
///
/// The attribute `user.iotstream.fields` has them as they are given back, a line each: `Content-Type: text/plain`.
package struct BlobFields: Equatable, Sendable {
    /// Bytes of all of them together at most: more has no room in one block beside the file.
    package static let longest = 3500
    private static let attribute = "user.iotstream.fields"
    private static let metadata = "x-ms-meta-"
    /// As they are asked for, and as they are given back.
    private static let known = [
        ("x-ms-blob-content-type", "Content-Type"), ("x-ms-blob-content-encoding", "Content-Encoding"),
        ("x-ms-blob-content-language", "Content-Language"), ("x-ms-blob-content-disposition", "Content-Disposition"),
        ("x-ms-blob-cache-control", "Cache-Control"),
    ]

    /// As they are given back.
    package private(set) var headers = HTTPHeaders()

    package init() {}

    /// Those of a request; nil when they are too long.
    /// - Parameter isWhole: whether the body is the file itself, whose type the request's own `Content-Type` may tell.
    package init?(_ request: HTTPHeaders, isWhole: Bool) {
        for (asked, given) in Self.known {
            if let value = request[asked], !value.isEmpty { headers.add(given, value) }
        }
        if isWhole, headers["Content-Type"] == nil, let type = request["Content-Type"], !type.isEmpty { headers.add("Content-Type", type) }
        for field in request.fields where Self.isMetadata(field.name) { headers.add(field.name, field.value) }
        guard text.count <= Self.longest else { return nil }
    }

    private static func isMetadata(_ name: String) -> Bool {
        let bytes = name.utf8.map { ASCII.lowercased($0) }
        return bytes.count > metadata.utf8.count && bytes.starts(with: metadata.utf8)
    }

    var text: [UInt8] { headers.fields.flatMap { Array("\($0.name): \($0.value)\n".utf8) } }

    /// Reads what is kept with a file; what is no such field is left out, since anybody may have written it.
    init(text: [UInt8]) {
        for line in text.split(separator: UInt8(ascii: "\n")) where line.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")), let name = Array(line[..<colon]).span.bytes.toString(),
                let value = Array(line[(colon + 1)...].drop { $0 == UInt8(ascii: " ") }).span.bytes.toString(), ASCII.isToken(name),
                Self.isMetadata(name) || Self.known.contains(where: { $0.1 == name })
            else { continue }
            headers.add(name, value)
        }
    }

    /// Puts them beside a file that is being written. A file system without room for such has none of them.
    func keep(with file: borrowing OwnedDescriptor) throws(BlobError) {
        guard headers.count > 0 else { return }
        let text = self.text
        guard fsetxattr(file.raw, Self.attribute, text, text.count, 0) == 0 || errno == EOPNOTSUPP || errno == EPERM else {
            throw BlobError(SystemError("fsetxattr"))
        }
    }

    /// Those of a file; none where none are kept.
    init(of file: borrowing OwnedDescriptor) {
        var text = [UInt8](repeating: 0, count: Self.longest)
        let count = fgetxattr(file.raw, Self.attribute, &text, text.count)
        self.init(text: Array(text.prefix(max(0, count))))
    }
}
