/// A queue of bytes: appended at the tail, consumed at the head, contiguous in between.
///
/// Unchecked Sendable: the queue is the only owner of its memory, and `~Copyable` keeps it so.
package struct ByteQueue: ~Copyable, @unchecked Sendable {
    private var store = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var head = 0, tail = 0

    package init() {}

    package init(_ bytes: some Sequence<UInt8>) {
        append(bytes)
    }

    deinit { store.deallocate() }

    /// Bytes waiting.
    package var count: Int { tail &- head }
    package var isEmpty: Bool { head == tail }
    /// Bytes of memory held.
    package var capacity: Int { store.count }

    /// Room for at least `count` more bytes; fill it from its start, then `commit` what was filled.
    package mutating func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer {
        if count > store.count &- tail { makeRoom(count) }
        return UnsafeMutableRawBufferPointer(rebasing: store[tail...])
    }

    /// Counts in `count` bytes that were written to the start of the reserved room.
    package mutating func commit(_ count: Int) {
        precondition(count >= 0 && count <= store.count &- tail)
        tail &+= count
    }

    private mutating func makeRoom(_ needed: Int) {
        let waiting = count
        if waiting + needed <= store.count, head >= waiting {  // the front half is free: slide instead of growing
            store.copyMemory(from: UnsafeRawBufferPointer(rebasing: store[head..<tail]))
        } else {
            let bigger = UnsafeMutableRawBufferPointer.allocate(byteCount: max(512, 2 * (waiting + needed)), alignment: 16)
            bigger.copyMemory(from: UnsafeRawBufferPointer(rebasing: store[head..<tail]))
            store.deallocate()
            store = bigger
        }
        head = 0
        tail = waiting
    }

    package mutating func append(_ bytes: RawSpan) {
        guard bytes.byteCount > 0 else { return }
        let room = reserve(bytes.byteCount)
        bytes.withUnsafeBytes { room.copyMemory(from: $0) }
        tail &+= bytes.byteCount
    }

    package mutating func append(_ byte: UInt8) {
        reserve(1)[0] = byte
        tail &+= 1
    }

    package mutating func append(_ bytes: some Sequence<UInt8>) {
        let copied: Void? = bytes.withContiguousStorageIfAvailable { append($0.span.bytes) }
        if copied == nil { for byte in bytes { append(byte) } }
    }

    /// The text's UTF-8.
    package mutating func append(_ text: String) {
        append(text.utf8Span.span.bytes)
    }

    /// The integer, most significant byte first.
    package mutating func append<Integer: FixedWidthInteger>(bigEndian value: Integer) {
        withUnsafeBytes(of: value.bigEndian) { append($0.bytes) }
    }

    /// Drops `count` bytes from the head.
    package mutating func consume(_ count: Int) {
        precondition(count >= 0 && count <= self.count)
        head &+= count
        if head == tail {
            head = 0
            tail = 0
        }
    }

    package mutating func removeAll() {
        consume(count)
    }

    /// Gives the memory back when nothing waits: idle connections own no buffers.
    package mutating func releaseIfEmpty() {
        guard isEmpty, store.count > 0 else { return }
        store.deallocate()
        store = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    /// Lends what waits.
    package func withBytes<Result, Failure>(_ body: (RawSpan) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(rebasing: store[head..<tail]).bytes)
    }

    /// Lends what waits for changes in place: masking, for one.
    package mutating func withMutableBytes<Result, Failure>(
        from offset: Int = 0, _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(offset >= 0 && offset <= count)
        return try body(UnsafeMutableRawBufferPointer(rebasing: store[(head + offset)..<tail]))
    }

    /// A copy of what waits.
    package func toArray() -> [UInt8] {
        withBytes { $0.toArray() }
    }
}
