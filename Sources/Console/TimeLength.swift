/// A length of time as people write it.
package enum TimeLength {
    /// Seconds in `90`, `30s`, `5m`, `1h30m`, `2d`; nil when it is not one or too long for 32 bits.
    package static func seconds(_ text: String) -> Int? {
        var total = 0
        var number: Int?
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                let next = (number ?? 0) * 10 + Int(byte - UInt8(ascii: "0"))
                guard next <= Int(Int32.max) else { return nil }
                number = next
            case UInt8(ascii: "s"), UInt8(ascii: "m"), UInt8(ascii: "h"), UInt8(ascii: "d"):
                guard let count = number else { return nil }
                let unit =
                    switch byte {
                    case UInt8(ascii: "s"): 1
                    case UInt8(ascii: "m"): 60
                    case UInt8(ascii: "h"): 3_600
                    default: 86_400
                    }
                total += count * unit
                guard total <= Int(Int32.max) else { return nil }
                number = nil
            default: return nil
            }
        }
        if let number {  // a bare number counts seconds; after a unit it would be a riddle
            guard total == 0, text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) else { return nil }
            return number
        }
        return text.isEmpty ? nil : total
    }
}
