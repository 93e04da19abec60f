import Blobs
import FuzzSupport
import Wire

@main
enum BlockListFuzz {
    static func main() {
        runFuzzer(fuzzBlockList)
    }
}

private func fuzzBlockList(_ input: inout FuzzInput) {
    let bytes = input.bytes, text = String(decoding: bytes, as: UTF8.self)
    if let list = BlockList(xml: bytes) {
        check(
            list.entries.count <= BlockList.mostBlocks && list.entries.allSatisfy { (1...64).contains($0.id.bytes.count) }, "within bounds")
        let inside = list.entries.map { entry in
            let place =
                switch entry.place {
                case .committed: "Committed"
                case .uncommitted: "Uncommitted"
                case .latest: "Latest"
                }
            return "<\(place)>\(Base64.encode(entry.id.bytes))</\(place)>"
        }
        check(BlockList(xml: Array("<BlockList>\(inside.joined())</BlockList>".utf8)) == list, "what is written is read again")
    }
    if let name = BlobName(text) {
        check(name.description == text && BlobName(device: name.device, path: name.path) == name, "a name is what it says")
        let directory = BlobName.directory(of: name.device)
        check(!directory.isEmpty && !directory.hasPrefix(".") && !directory.utf8.contains(UInt8(ascii: "/")), "a device has a directory")
        let components = name.path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { String(Substring($0)) }
        check(components.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && !$0.utf8.contains(0) }, "a path stays where it is")
    }
    for size in [0, 1, 1000, Int.max] {
        if case .part(let range) = BlobRange(text, of: size) { check(!range.isEmpty && range.upperBound <= size, "a range is in the file") }
    }
}
