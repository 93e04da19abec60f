/// Bytes as pairs of hexadecimal digits.
package enum Hex {
    package static func encode(_ bytes: some Sequence<UInt8>, uppercase: Bool = false) -> String {
        let digits = Array((uppercase ? "0123456789ABCDEF" : "0123456789abcdef").utf8)
        var codes: [UInt8] = []
        for byte in bytes {
            codes.append(digits[Int(byte >> 4)])
            codes.append(digits[Int(byte & 15)])
        }
        return String(decoding: codes, as: UTF8.self)
    }

    /// The bytes behind digits of either case; nil for an odd count or anything else in between.
    package static func decode(_ text: some StringProtocol) -> [UInt8]? {
        let codes = Array(text.utf8)
        guard codes.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(codes.count / 2)
        for place in stride(from: 0, to: codes.count, by: 2) {
            guard let high = ASCII.hexValue(codes[place]), let low = ASCII.hexValue(codes[place + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }
}
