import Glibc
import LinuxIO
import Wire

/// Which blocks a file is made of, for a list that wants to keep some of them: one line for the version of the file, and one for each
/// block, in their order.
///
///     {entity tag} LF ({id, hexadecimal} SPACE {bytes} LF)*
struct BlockMap {
    var etag: String
    var blocks: [(id: BlockID, size: Int)]

    static let name = "map"

    var text: String { blocks.reduce(into: "\(etag)\n") { $0 += "\($1.id.hex) \($1.size)\n" } }

    /// Replaces what is in a file's directory of blocks. Does its best: without it the blocks are not found again, no more.
    func write(in directory: String, of home: String) {
        _ = mkdir(home, 0o700)
        _ = mkdir(directory, 0o700)
        try? Files.replace("\(directory)/\(Self.name)", with: Array(text.utf8), mode: 0o600, isDurable: false)
    }

    /// Where each block lies in the file that is there; empty when the map is another's.
    static func places(in directory: String, of existing: BlobProperties?) -> [BlockID: Range<Int>] {
        guard let existing, let bytes = try? Files.read("\(directory)/\(name)", limit: 16 << 20) else { return [:] }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard let first = lines.first, String(first) == existing.etag else { return [:] }
        var places: [BlockID: Range<Int>] = [:]
        var offset = 0
        for line in lines.dropFirst() {
            let words = line.split(separator: " ")
            guard words.count == 2, let id = BlockID(hex: String(words[0])), let size = Int(words[1]), size >= 0,
                size <= existing.size - offset
            else { return [:] }
            places[id] = offset..<(offset + size)
            offset += size
        }
        return places
    }
}
