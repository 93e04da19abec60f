/// Masking of payloads: RFC 6455 section 5.3. Applying it twice gives back what was there.
package enum WebSocketMask {
    /// XORs the buffer with the key, in place.
    /// - Parameters:
    ///   - key: its first byte is the most significant, as in `WebSocketFrameHeader.maskKey`. A zero key costs nothing.
    ///   - offset: how many bytes of the payload came before this buffer.
    package static func apply(_ buffer: UnsafeMutableRawBufferPointer, key: UInt32, offset: Int = 0) {
        guard key != 0, let base = buffer.baseAddress else { return }
        let shift = UInt32(truncatingIfNeeded: offset & 3) &* 8
        let turned = shift == 0 ? key : key << shift | key >> (32 &- shift)
        let pattern = turned.bigEndian  // in memory order from here on
        let word = UInt64(pattern) << 32 | UInt64(pattern)
        let vector = SIMD8<UInt64>(repeating: word)
        let count = buffer.count
        var index = 0
        while count &- index >= 64 {
            let masked = base.loadUnaligned(fromByteOffset: index, as: SIMD8<UInt64>.self) ^ vector
            base.storeBytes(of: masked, toByteOffset: index, as: SIMD8<UInt64>.self)
            index &+= 64
        }
        while count &- index >= 8 {
            let masked = base.loadUnaligned(fromByteOffset: index, as: UInt64.self) ^ word
            base.storeBytes(of: masked, toByteOffset: index, as: UInt64.self)
            index &+= 8
        }
        var rest = pattern.littleEndian
        while index < count {
            let masked = base.load(fromByteOffset: index, as: UInt8.self) ^ UInt8(truncatingIfNeeded: rest)
            base.storeBytes(of: masked, toByteOffset: index, as: UInt8.self)
            rest = rest << 24 | rest >> 8
            index &+= 1
        }
    }

    /// A key from the system's random numbers, never zero.
    package static func randomKey() -> UInt32 {
        UInt32.random(in: 1 ... .max)
    }
}
