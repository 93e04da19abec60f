/// File names made of identifiers: `press:17` becomes `press%3A17`.
package enum FileName {
    /// A name for files that no other identifier gets: letters, digits and `- . _ + = @ ,` stand for themselves, and so does everything
    /// outside ASCII; other bytes become `%` and two hex digits. Never empty, `.`, `..`, hidden or an option; never with a `/`.
    ///
    /// The endings `.full-chain` and `.ca` belong to this tool's own files, so their dot is encoded too.
    package static func safe(_ identifier: String) -> String {
        var bytes: [UInt8] = []
        for (index, byte) in identifier.utf8.enumerated() {
            let leads = index == 0 && (byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-"))
            if standsForItself(byte) && !leads { bytes.append(byte) } else { bytes += encoded(byte) }
        }
        for ending in [".full-chain", ".ca"]
        where bytes.count > ending.utf8.count && bytes.suffix(ending.utf8.count).elementsEqual(ending.utf8) {
            let dot = bytes.count - ending.utf8.count
            bytes.replaceSubrange(dot...dot, with: encoded(UInt8(ascii: ".")))
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func standsForItself(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "+"), UInt8(ascii: "="), UInt8(ascii: "@"),
            UInt8(ascii: ","):
            true
        default: byte >= 0x80
        }
    }

    private static func encoded(_ byte: UInt8) -> [UInt8] {
        let digits = Array("0123456789ABCDEF".utf8)
        return [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
    }
}
