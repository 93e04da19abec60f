import Bytes

/// Masking of payloads: RFC 6455 section 5.3. Applying it twice gives back what was there.
package enum WebSocketMask {
    /// XORs the buffer with the key, in place.
    /// - Parameters:
    ///   - key: its first byte is the most significant, as in `WebSocketFrameHeader.maskKey`. A zero key costs nothing.
    ///   - offset: how many bytes of the payload came before this buffer.
    package static func apply(_ buffer: UnsafeMutableRawBufferPointer, key: UInt32, offset: Int = 0) {
        guard key != 0 else { return }
        copy(UnsafeRawBufferPointer(buffer), to: buffer, key: turned(key, by: offset))
    }

    /// Appends the bytes to the queue, XORed on their way.
    /// - Parameter key: belongs to the first of the bytes; see `turned`.
    package static func append(_ bytes: RawSpan, key: UInt32, to queue: inout ByteQueue) {
        guard key != 0 else { return queue.append(bytes) }
        let room = queue.reserve(bytes.byteCount)
        bytes.withUnsafeBytes { copy($0, to: room, key: key) }
        queue.commit(bytes.byteCount)
    }

    /// The key as it applies `offset` bytes into the payload.
    package static func turned(_ key: UInt32, by offset: Int) -> UInt32 {
        let shift = UInt32(truncatingIfNeeded: offset & 3) &* 8
        return shift == 0 ? key : key << shift | key >> (32 &- shift)
    }

    /// From one place to another, or within one, by vectors of 64 bytes.
    private static func copy(_ bytes: UnsafeRawBufferPointer, to room: UnsafeMutableRawBufferPointer, key: UInt32) {
        guard let source = bytes.baseAddress, let target = room.baseAddress else { return }
        let pattern = key.bigEndian  // in memory order from here on
        let word = UInt64(pattern) << 32 | UInt64(pattern)
        let vector = SIMD8<UInt64>(repeating: word)
        let count = min(bytes.count, room.count)
        var index = 0
        while count &- index >= 64 {
            let masked = source.loadUnaligned(fromByteOffset: index, as: SIMD8<UInt64>.self) ^ vector
            target.storeBytes(of: masked, toByteOffset: index, as: SIMD8<UInt64>.self)
            index &+= 64
        }
        while count &- index >= 8 {
            let masked = source.loadUnaligned(fromByteOffset: index, as: UInt64.self) ^ word
            target.storeBytes(of: masked, toByteOffset: index, as: UInt64.self)
            index &+= 8
        }
        var rest = pattern.littleEndian
        while index < count {
            let masked = source.load(fromByteOffset: index, as: UInt8.self) ^ UInt8(truncatingIfNeeded: rest)
            target.storeBytes(of: masked, toByteOffset: index, as: UInt8.self)
            rest = rest << 24 | rest >> 8
            index &+= 1
        }
    }

    /// A key from the system's random numbers, never zero.
    package static func randomKey() -> UInt32 {
        UInt32.random(in: 1 ... .max)
    }
}
