import Bytes

/// Bytes per second as people write them: `1MB/s`, `500kB/s`, `2MiB/s`, `10Mbit/s`, `1.5GB`, `4096`. Prefixes are powers of 1000, those
/// with an i of 1024; B stands for bytes and `bit` for bits, and neither is guessed from the other.
package enum ByteRate {
    /// The highest that can be said, a terabyte per second.
    package static let highest = 1_000_000_000_000
    /// What to tell somebody whose rate is none.
    package static let examples = "write it like 1MB/s, 500kB/s, 2MiB/s, 10Mbit/s or 4096"

    /// The rate in bytes per second, 1 to `highest`; nil for anything else. A part of a byte is dropped.
    package static func parse(_ text: String) -> Int? {
        let bytes = Array(text.utf8)
        var position = 0
        guard let whole = digits(bytes, &position), whole.count <= 13 else { return nil }
        var fraction: [UInt8] = []
        if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
            position += 1
            guard let found = digits(bytes, &position), found.count <= 6 else { return nil }
            fraction = found
        }
        guard let unit = unit(bytes[position...]) else { return nil }
        // At most 13 + 6 digits: as millionths of a unit in 64 bits, and the product in 128.
        let millionths = (whole + fraction + [UInt8](repeating: UInt8(ascii: "0"), count: 6 - fraction.count))
            .reduce(UInt64(0)) { $0 &* 10 &+ UInt64($1 - UInt8(ascii: "0")) }
        let product = millionths.multipliedFullWidth(by: UInt64(unit.factor)), divisor = UInt64(unit.isBits ? 8_000_000 : 1_000_000)
        guard product.high < divisor else { return nil }
        let rate = divisor.dividingFullWidth(product).quotient
        return (1...UInt64(highest)).contains(rate) ? Int(rate) : nil
    }

    private static func digits(_ bytes: [UInt8], _ position: inout Int) -> [UInt8]? {
        let found = bytes[position...].prefix(while: ASCII.isDigit)
        position += found.count
        return found.isEmpty ? nil : Array(found)
    }

    private static func unit(_ text: ArraySlice<UInt8>) -> (factor: Int, isBits: Bool)? {
        var rest = text
        if rest.suffix(2) == Array("/s".utf8)[...] { rest = rest.dropLast(2) }
        guard !rest.isEmpty else { return rest.count == text.count ? (1, false) : nil }  // 4096/s says nothing of what
        var isBits = false
        if rest.suffix(3) == Array("bit".utf8)[...] {
            isBits = true
            rest = rest.dropLast(3)
        } else if rest.last == UInt8(ascii: "B") {
            rest = rest.dropLast()
        } else {
            return nil
        }
        switch String(decoding: rest, as: UTF8.self) {
        case "": return (1, isBits)
        case "k", "K": return (1000, isBits)
        case "M": return (1_000_000, isBits)
        case "G": return (1_000_000_000, isBits)
        case "Ki": return (1 << 10, isBits)
        case "Mi": return (1 << 20, isBits)
        case "Gi": return (1 << 30, isBits)
        default: return nil
        }
    }

    /// As `parse` reads it back, with the largest unit that says it exactly in few digits: `1MB/s`, `2MiB/s`, `1536B/s`.
    package static func text(_ rate: Int) -> String {
        for (factor, unit) in [
            (1_000_000_000, "GB"), (1 << 30, "GiB"), (1_000_000, "MB"), (1 << 20, "MiB"), (1000, "kB"), (1 << 10, "KiB"),
        ] where rate >= factor && rate % factor == 0 { return "\(rate / factor)\(unit)/s" }
        return "\(rate)B/s"
    }
}
