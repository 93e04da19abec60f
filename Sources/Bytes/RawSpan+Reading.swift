extension RawSpan {
    /// The byte at `index`; traps out of bounds, so check lengths first.
    @inlinable package func byte(at index: Int) -> UInt8 {
        unsafeLoad(fromByteOffset: checked(index, 1), as: UInt8.self)
    }

    /// The integer at `index`, most significant byte first; traps out of bounds, so check lengths first.
    @inlinable package func bigEndian<Integer: FixedWidthInteger & BitwiseCopyable>(at index: Int, as type: Integer.Type) -> Integer {
        Integer(bigEndian: unsafeLoadUnaligned(fromByteOffset: checked(index, MemoryLayout<Integer>.size), as: Integer.self))
    }

    @inlinable func checked(_ index: Int, _ size: Int) -> Int {
        precondition(index >= 0 && size <= byteCount && index <= byteCount &- size)
        return index
    }

    /// The first place of `byte` at or after `start`.
    package func firstIndex(of byte: UInt8, from start: Int = 0) -> Int? {
        var index = start
        while index < byteCount {
            if self.byte(at: index) == byte { return index }
            index &+= 1
        }
        return nil
    }

    /// A copy of the bytes.
    package func toArray() -> [UInt8] {
        withUnsafeBytes { Array($0) }
    }

    /// The bytes as text; nil when they are not UTF-8.
    package func toString() -> String? {
        withUnsafeBytes { bytes in
            // A quarter of the time of `String(validating:)`.
            guard let text = try? UTF8Span(validating: bytes.assumingMemoryBound(to: UInt8.self).span) else { return nil }
            return String(copying: text)
        }
    }

    package func equals(_ text: StaticString) -> Bool {
        guard byteCount == text.utf8CodeUnitCount else { return false }
        for index in 0..<byteCount where byte(at: index) != text.utf8Start[index] { return false }
        return true
    }
}
