import Bytes

/// Percent-encoding, RFC 3986 section 2.1: strict when reading, upper-case hexadecimal when writing.
///
/// A plus is a plus: form encoding's "+ for space" is nobody's rule in the paths and topics read here.
package enum PercentCoding {
    /// The ASCII bytes that stand for themselves; everything else is written as `%XX`.
    package struct SafeSet: Sendable {
        private let low, high: UInt64

        /// - Parameter characters: ASCII only; others are ignored, since they are never safe. Nor is the percent sign.
        package init(_ characters: StaticString) {
            var (low, high) = (0 as UInt64, 0 as UInt64)
            characters.withUTF8Buffer { bytes in
                for byte in bytes where byte < 128 && byte != UInt8(ascii: "%") {
                    if byte < 64 { low |= 1 << UInt64(byte) } else { high |= 1 << UInt64(byte - 64) }
                }
            }
            self.low = low
            self.high = high
        }

        package func contains(_ byte: UInt8) -> Bool {
            if byte < 64 { return low >> UInt64(byte) & 1 == 1 }
            return byte < 128 && high >> UInt64(byte &- 64) & 1 == 1
        }

        /// RFC 3986 section 2.3: letters, digits, `-._~`.
        package static let unreserved = SafeSet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
        /// What a stream URL may hold raw in a topic (device-streams 4.3 rule 1): letters, digits, `!()*-._`, and no tilde.
        package static let streamURL = SafeSet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!()*-._")
    }

    /// Every byte outside `safe` as `%XX`.
    package static func encode(_ bytes: RawSpan, leaving safe: SafeSet) -> String {
        let digits: StaticString = "0123456789ABCDEF"
        let count = bytes.byteCount
        var escapes = 0
        for index in 0..<count where !safe.contains(bytes.byte(at: index)) { escapes += 1 }
        return String(unsafeUninitializedCapacity: count + 2 * escapes) { buffer in
            var end = 0
            for index in 0..<count {
                let byte = bytes.byte(at: index)
                if safe.contains(byte) {
                    buffer[end] = byte
                    end += 1
                } else {
                    buffer[end] = UInt8(ascii: "%")
                    buffer[end + 1] = digits.utf8Start[Int(byte >> 4)]
                    buffer[end + 2] = digits.utf8Start[Int(byte & 15)]
                    end += 3
                }
            }
            return end
        }
    }

    /// The text's UTF-8 with every byte outside `safe` as `%XX`.
    package static func encode(_ text: String, leaving safe: SafeSet) -> String {
        encode(text.utf8Span.span.bytes, leaving: safe)
    }

    /// Decodes once. Nil when a percent sign is not followed by two hexadecimal digits.
    package static func decodeBytes(_ bytes: RawSpan) -> [UInt8]? {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.byteCount)
        var index = 0
        while index < bytes.byteCount {
            let byte = bytes.byte(at: index)
            if byte != UInt8(ascii: "%") {
                decoded.append(byte)
                index += 1
                continue
            }
            guard bytes.byteCount - index > 2, let high = ASCII.hexValue(bytes.byte(at: index + 1)),
                let low = ASCII.hexValue(bytes.byte(at: index + 2))
            else { return nil }
            decoded.append(high << 4 | low)
            index += 3
        }
        return decoded
    }

    /// Decodes once. Nil when an escape is broken or the outcome is not UTF-8.
    package static func decode(_ bytes: RawSpan) -> String? {
        if bytes.firstIndex(of: UInt8(ascii: "%")) == nil { return bytes.toString() }
        return decodeBytes(bytes).flatMap { String(validating: $0, as: UTF8.self) }
    }

    /// Decodes once. Nil when an escape is broken or the outcome is not UTF-8.
    package static func decode(_ text: String) -> String? {
        decode(text.utf8Span.span.bytes)
    }
}
