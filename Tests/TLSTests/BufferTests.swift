import TLS
import Testing

@Suite struct BufferTests {
    @Test func `A buffer of a record comes back to the next who asks, whatever the size within its shelf`() throws {
        let first = try #require(TLSBuffers.allocate(16_716))
        TLSBuffers.release(first)
        let second = try #require(TLSBuffers.allocate(17_408))
        second.storeBytes(of: 7, toByteOffset: 17_407, as: UInt8.self)
        TLSBuffers.release(second)
    }

    @Test(arguments: [1, 16_384, 16_385, 17_408, 17_409, 22_528, 22_529, 65_536, 300_000])
    func `Every size has all of its bytes`(count: Int) throws {
        var held: [UnsafeMutableRawPointer] = []
        for round in 0..<20 {
            let buffer = try #require(TLSBuffers.allocate(count))
            buffer.initializeMemory(as: UInt8.self, repeating: UInt8(round), count: count)
            held.append(buffer)
        }
        for (round, buffer) in held.enumerated() {
            #expect(buffer.load(as: UInt8.self) == UInt8(round))
            #expect(buffer.load(fromByteOffset: count - 1, as: UInt8.self) == UInt8(round))
        }
        for buffer in held { TLSBuffers.release(buffer) }
    }

    @Test func `Nothing is nothing`() {
        #expect(TLSBuffers.allocate(0) == nil)
        TLSBuffers.release(nil)
    }
}
