import Bytes
import Testing

@Suite struct ByteQueueTests {
    @Test func givesBackWhatWasAppendedInOrder() {
        var queue = ByteQueue()
        queue.append("abc")
        queue.append(UInt8(ascii: "d"))
        queue.append([0x65, 0x66])
        queue.append(bigEndian: UInt16(0x6768))
        #expect(queue.toArray() == Array("abcdefgh".utf8))
        queue.consume(3)
        #expect(queue.toArray() == Array("defgh".utf8))
    }

    @Test func survivesManyRoundsOfAppendAndConsume() {
        var queue = ByteQueue()
        var written: UInt8 = 0, read: UInt8 = 0
        for round in 0..<2000 {
            for _ in 0..<(round % 97) {
                queue.append(written)
                written &+= 1
            }
            let count = min(queue.count, round % 89)
            let isRight = queue.withBytes { bytes in
                (0..<count).allSatisfy { bytes.byte(at: $0) == read &+ UInt8(truncatingIfNeeded: $0) }
            }
            #expect(isRight)
            queue.consume(count)
            read &+= UInt8(truncatingIfNeeded: count)
        }
    }

    @Test func ownsNoMemoryWhenReleased() {
        var queue = ByteQueue("hello".utf8)
        queue.releaseIfEmpty()
        #expect(queue.count == 5)
        queue.removeAll()
        queue.releaseIfEmpty()
        #expect(queue.capacity == 0)
    }

    @Test func readsIntegersMostSignificantByteFirst() {
        let queue = ByteQueue([1, 2, 3, 4])
        let value = queue.withBytes { $0.bigEndian(at: 1, as: UInt16.self) }
        #expect(value == 0x0203)
    }
}
