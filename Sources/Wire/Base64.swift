/// Base64, RFC 4648: the standard alphabet with padding, and the URL alphabet without.
package enum Base64 {
    /// The standard alphabet (section 4), padded to a multiple of four.
    package static func encode(_ bytes: some Sequence<UInt8>) -> String {
        encode(bytes, alphabet: standard, pads: true)
    }

    /// The URL and file name alphabet (section 5), without padding.
    package static func encodeURL(_ bytes: some Sequence<UInt8>) -> String {
        encode(bytes, alphabet: url, pads: false)
    }

    /// The bytes behind standard Base64; nil for anything but the one canonical spelling: a foreign character, a missing or
    /// misplaced padding, or bits set that no byte holds.
    package static func decode(_ text: some StringProtocol) -> [UInt8]? {
        var codes = Array(text.utf8)
        guard codes.count.isMultiple(of: 4) else { return nil }
        var padding = 0
        while padding < 2, codes.last == UInt8(ascii: "=") {
            codes.removeLast()
            padding += 1
        }
        return decode(codes, sixtyTwo: UInt8(ascii: "+"), sixtyThree: UInt8(ascii: "/"))
    }

    /// The bytes behind unpadded base64url; nil for anything but the one canonical spelling.
    package static func decodeURL(_ text: some StringProtocol) -> [UInt8]? {
        decode(Array(text.utf8), sixtyTwo: UInt8(ascii: "-"), sixtyThree: UInt8(ascii: "_"))
    }

    private static let standard = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let url = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    private static func encode(_ bytes: some Sequence<UInt8>, alphabet: [UInt8], pads: Bool) -> String {
        var codes: [UInt8] = []
        codes.reserveCapacity(bytes.underestimatedCount / 3 * 4 + 4)
        var held: UInt32 = 0, bits = 0
        for byte in bytes {
            held = held << 8 | UInt32(byte)
            bits += 8
            while bits >= 6 {
                bits -= 6
                codes.append(alphabet[Int(held >> UInt32(bits)) & 63])
            }
            held &= 63  // at most four bits wait for the next byte
        }
        if bits > 0 { codes.append(alphabet[Int(held << UInt32(6 - bits)) & 63]) }
        if pads { while !codes.count.isMultiple(of: 4) { codes.append(UInt8(ascii: "=")) } }
        return String(decoding: codes, as: UTF8.self)
    }

    private static func decode(_ codes: [UInt8], sixtyTwo: UInt8, sixtyThree: UInt8) -> [UInt8]? {
        guard codes.count % 4 != 1 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(codes.count / 4 * 3 + 2)
        var held: UInt32 = 0, bits = 0
        for code in codes {
            let value: UInt8
            switch code {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = code - UInt8(ascii: "A")
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = code - UInt8(ascii: "a") + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = code - UInt8(ascii: "0") + 52
            case sixtyTwo: value = 62
            case sixtyThree: value = 63
            default: return nil
            }
            held = (held << 6 | UInt32(value)) & 0xFFFF
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: held >> UInt32(bits)))
            }
        }
        guard held & (1 << UInt32(bits) - 1) == 0 else { return nil }
        return bytes
    }
}
