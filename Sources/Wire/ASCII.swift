/// Classes of ASCII bytes, and comparisons that fold the case of ASCII letters only.
package enum ASCII {
    /// A token character of RFC 9110 section 5.6.2: method names, field names, subprotocols.
    @inlinable package static func isToken(_ byte: UInt8) -> Bool {
        if byte < 64 { return (0x03FF_6CFA_0000_0000 as UInt64) >> UInt64(byte) & 1 == 1 }
        if byte < 128 { return (0x57FF_FFFF_C7FF_FFFE as UInt64) >> UInt64(byte &- 64) & 1 == 1 }
        return false
    }

    @inlinable package static func isDigit(_ byte: UInt8) -> Bool {
        byte &- 0x30 < 10
    }

    @inlinable package static func lowercased(_ byte: UInt8) -> UInt8 {
        byte &- 0x41 < 26 ? byte | 0x20 : byte
    }

    /// The value of a hexadecimal digit of either case; nil for any other byte.
    @inlinable package static func hexValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte &- 0x30
        case 0x41...0x46: byte &- 0x37
        case 0x61...0x66: byte &- 0x57
        default: nil
        }
    }

    /// Whether both texts are the same apart from the case of ASCII letters.
    package static func equalIgnoringCase(_ one: String, _ other: String) -> Bool {
        one.utf8.count == other.utf8.count && equalIgnoringCase(one.utf8Span.span.bytes, other)
    }

    /// Whether bytes and text are the same apart from the case of ASCII letters.
    package static func equalIgnoringCase(_ bytes: RawSpan, _ text: String) -> Bool {
        let other = text.utf8Span.span
        guard bytes.byteCount == other.count else { return false }
        for index in 0..<other.count where lowercased(bytes.byte(at: index)) != lowercased(other[index]) { return false }
        return true
    }

    /// Whether the text is a token: at least one character, all of them token characters.
    package static func isToken(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy(isToken)
    }

    /// A decimal number of digits only: no sign, no space, at least one digit; nil when it is something else or above `limit`.
    package static func decimal(_ bytes: RawSpan, upTo limit: Int = .max) -> Int? {
        guard bytes.byteCount > 0 else { return nil }
        var value = 0
        for index in 0..<bytes.byteCount {
            let byte = bytes.byte(at: index)
            guard isDigit(byte) else { return nil }
            let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(Int(byte &- 0x30))
            guard !overflow, !carry, sum <= limit else { return nil }
            value = sum
        }
        return value
    }
}
