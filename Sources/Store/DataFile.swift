import Bytes
import Glibc
import LinuxIO

/// A look at LMDB's data file before the library maps it: a page that the file lacks would end the process by SIGBUS.
///
/// Layout, lmdb 0.9 on 64-bit machines, integers in the machine's order:
///
///     page    pgno 8 | pad 2 | flags 2 | lower 2, upper 2, or the number of overflow pages 4 | content
///     meta    magic 4 | version 4 | address 8 | map size 8 | free list 48 | main 48 | last page 8 | transaction 8
///     tree    page size 4 | flags 2 | depth 2 | pages 24 | entries 8 | root 8                              (48 bytes)
///     node    low 2 | high 2 | flags 2 | key size 2 | key | data, or page 8, or tree 48
struct DataFile: ~Copyable {
    private let descriptor: OwnedDescriptor
    private let path: String

    init(path: String) throws(StoreError) {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else {
            throw errno == ENOENT ? .damaged(path: path, reason: "missing") : StoreError(errno, "open", path: path)
        }
        descriptor = OwnedDescriptor(adopting: raw)
        self.path = path
    }

    /// What the newer of the two meta pages says.
    struct Meta: Equatable {
        var pageBytes, lastPage, transaction: Int
        var freeRoot, mainRoot: Int?
    }

    private static let headBytes = 16, metaBytes = 136, treeBytes = 48
    private static let smallestPage = 512, largestPage = 65536

    /// Bytes of the file now.
    func byteCount() throws(StoreError) -> Int {
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0 else { throw StoreError(errno, "stat", path: path) }
        return Int(status.st_size)
    }

    /// Reads the meta pages, after a look at what kind of file it is.
    func meta() throws(StoreError) -> Meta {
        let bytes = try byteCount()
        guard bytes >= Self.headBytes + Self.metaBytes else { throw .cutShort(path: path, bytes: bytes, expectedBytes: 8192) }
        let first = try readMeta(at: 0)
        guard bytes >= 2 * first.pageBytes else { throw .cutShort(path: path, bytes: bytes, expectedBytes: 2 * first.pageBytes) }
        let second = try readMeta(at: first.pageBytes)
        return second.transaction > first.transaction ? second : first
    }

    private func readMeta(at offset: Int) throws(StoreError) -> Meta {
        let head = try bytes(at: offset, count: Self.headBytes + Self.metaBytes)
        guard head.integer(10, UInt16.self) & 0x08 != 0, head.integer(16, UInt32.self) == 0xBEEF_C0DE else {
            throw .notARegistry(path: path)
        }
        guard head.integer(20, UInt32.self) == 1 else {
            throw .damaged(path: path, reason: "LMDB format \(head.integer(20, UInt32.self))")
        }
        let page = Int(head.integer(40, UInt32.self))
        guard page >= Self.smallestPage, page <= Self.largestPage, page & (page - 1) == 0 else {
            throw .damaged(path: path, reason: "page size \(page)")
        }
        let last = head.integer(136, UInt64.self)
        guard last < UInt64(1) << 40 else { throw .damaged(path: path, reason: "last page \(last)") }
        return Meta(
            pageBytes: page, lastPage: Int(last), transaction: Int(head.integer(144, UInt64.self) & (UInt64.max >> 1)),
            freeRoot: Self.root(head, tree: 40), mainRoot: Self.root(head, tree: 88))
    }

    private static func root(_ bytes: [UInt8], tree: Int) -> Int? {
        let root = bytes.integer(tree + 40, UInt64.self)
        return root == UInt64.max ? nil : Int(root & (UInt64.max >> 1))
    }

    /// Looks whether the file holds every page that is in use. A file may be shorter than its last page without harm,
    /// when that page was taken and freed within one transaction; then, or when asked to, every page is visited.
    ///
    /// Call with a read transaction open, so that no page of this state is used anew meanwhile.
    func verify(everyPage: Bool) throws(StoreError) {
        let meta = try meta()
        let bytes = try byteCount()
        let expected = (meta.lastPage + 1) * meta.pageBytes
        guard bytes < expected || everyPage else { return }
        var walk = Walk(meta: meta, bytes: bytes, expected: expected)
        for root in [meta.freeRoot, meta.mainRoot] {
            guard let root else { continue }
            try visit(root, depth: 0, &walk)
        }
    }

    private struct Walk {
        let meta: Meta
        let bytes, expected: Int
        var visited = 0
    }

    private func visit(_ page: Int, depth: Int, _ walk: inout Walk) throws(StoreError) {
        let size = walk.meta.pageBytes
        walk.visited += 1
        guard page > 1, page <= walk.meta.lastPage, depth < 64, walk.visited <= walk.bytes / size else {
            throw .damaged(path: path, reason: "page \(page) is out of place")
        }
        guard (page + 1) * size <= walk.bytes else { throw .cutShort(path: path, bytes: walk.bytes, expectedBytes: walk.expected) }
        let bytes = try bytes(at: page * size, count: size)
        guard bytes.integer(0, UInt64.self) == UInt64(page) else { throw .damaged(path: path, reason: "page \(page) is not itself") }
        let flags = bytes.integer(10, UInt16.self)
        guard flags & 0x03 != 0, flags & 0x20 == 0 else { throw .damaged(path: path, reason: "page \(page) has kind \(flags)") }
        let lower = Int(bytes.integer(12, UInt16.self))
        guard lower >= Self.headBytes, lower <= size else { throw .damaged(path: path, reason: "page \(page) is overfull") }
        for index in 0..<(lower - Self.headBytes) / 2 {
            let node = Int(bytes.integer(Self.headBytes + 2 * index, UInt16.self))
            guard node >= lower, node + 8 <= size else { throw .damaged(path: path, reason: "page \(page) points outside") }
            if flags & 0x01 != 0 {
                try visit(Self.child(bytes, node), depth: depth + 1, &walk)
            } else {
                try visitLeaf(bytes, node, page, depth, &walk)
            }
        }
    }

    private static func child(_ bytes: [UInt8], _ node: Int) -> Int {
        let low = Int(bytes.integer(node, UInt16.self)), middle = Int(bytes.integer(node + 2, UInt16.self))
        return low | middle << 16 | Int(bytes.integer(node + 4, UInt16.self)) << 32
    }

    private func visitLeaf(_ bytes: [UInt8], _ node: Int, _ page: Int, _ depth: Int, _ walk: inout Walk) throws(StoreError) {
        let flags = bytes.integer(node + 4, UInt16.self)
        let data = node + 8 + Int(bytes.integer(node + 6, UInt16.self))
        let length = Int(bytes.integer(node, UInt16.self)) | Int(bytes.integer(node + 2, UInt16.self)) << 16
        let inPage = flags & 0x01 != 0 ? 8 : length
        guard data + inPage <= bytes.count else { throw .damaged(path: path, reason: "page \(page) has a record that ends outside") }
        if flags & 0x01 != 0 {
            try visitOverflow(bytes.integer(data, UInt64.self), length: length, &walk)
        } else if flags & 0x02 != 0 {
            guard length == Self.treeBytes else { throw .damaged(path: path, reason: "page \(page) has a bad table") }
            if let root = Self.root(bytes, tree: data) { try visit(root, depth: depth + 1, &walk) }
        }
    }

    private func visitOverflow(_ first: UInt64, length: Int, _ walk: inout Walk) throws(StoreError) {
        let size = walk.meta.pageBytes
        let pages = (Self.headBytes + length + size - 1) / size
        guard first > 1, first <= UInt64(walk.meta.lastPage), pages <= walk.meta.lastPage else {
            throw .damaged(path: path, reason: "page \(first) is out of place")
        }
        let end = (Int(first) + pages) * size
        guard end <= walk.bytes else { throw .cutShort(path: path, bytes: walk.bytes, expectedBytes: max(walk.expected, end)) }
        let head = try bytes(at: Int(first) * size, count: Self.headBytes)
        guard head.integer(0, UInt64.self) == first, head.integer(10, UInt16.self) & 0x04 != 0 else {
            throw .damaged(path: path, reason: "page \(first) is not itself")
        }
        walk.visited += pages
    }

    private func bytes(at offset: Int, count: Int) throws(StoreError) -> [UInt8] {
        var result = -1
        let raw = descriptor.raw
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            repeat { result = pread(raw, buffer.baseAddress, count, off_t(offset)) } while result < 0 && errno == EINTR
            filled = max(0, result)
        }
        guard result >= 0 else { throw StoreError(errno, "read", path: path) }
        guard result == count else { throw .cutShort(path: path, bytes: offset + result, expectedBytes: offset + count) }
        return bytes
    }
}

extension [UInt8] {
    /// The integer at `offset` in the machine's order; traps out of bounds, so check lengths first.
    fileprivate func integer<Integer: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ type: Integer.Type) -> Integer {
        span.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Integer.self)
    }
}
