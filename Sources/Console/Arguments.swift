/// A parsed command line: what the person asked for, by the names of the command's table.
package struct Arguments: Sendable {
    /// The role, for messages: `device`.
    package let role: String
    /// The whole command: `device create`.
    package let path: String
    /// The words that are no options, in order.
    package let operands: [String]
    private let values: [String: [String?]]
    private let operandsByName: [String: [String]]

    /// - Parameters:
    ///   - values: by long name, what each occurrence carried (nil: nothing).
    ///   - operandsByName: the operands, dealt out to the names of the table.
    package init(
        role: String, path: String, values: [String: [String?]] = [:], operands: [String] = [], operandsByName: [String: [String]] = [:]
    ) {
        self.role = role
        self.path = path
        self.values = values
        self.operands = operands
        self.operandsByName = operandsByName
    }

    /// Whether the option stands on the command line, with or without a value.
    package func flag(_ option: String) -> Bool { values[option] != nil }

    /// How many times the option stands there.
    package func count(_ option: String) -> Int { values[option]?.count ?? 0 }

    /// The option's value; the last one when it stands there several times.
    package func text(_ option: String) -> String? { values[option]?.last ?? nil }

    /// All values of a repeated option, in order.
    package func list(_ option: String) -> [String] { (values[option] ?? []).compactMap { $0 } }

    /// The operand's word, by its name in the table.
    package func operand(_ name: String) -> String? { operandsByName[name]?.first }

    /// The words of an operand that takes several.
    package func operandList(_ name: String) -> [String] { operandsByName[name] ?? [] }

    /// An operand that the table makes sure of.
    package func required(_ name: String) throws(Failure) -> String {
        guard let word = operand(name) else { throw .usage("\(name) is missing", "see iotstream \(path) --help") }
        return word
    }

    /// The option's value as a decimal number within `range`.
    package func integer(_ option: String, in range: ClosedRange<Int>) throws(Failure) -> Int? {
        guard let text = text(option) else { return nil }
        guard let number = Int(text), range.contains(number), !text.hasPrefix("+") else {
            throw .usage("--\(option) \(text): not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The option's value as a time in seconds: `90`, `30s`, `5m`, `1h30m`, `2d`.
    package func seconds(_ option: String, in range: ClosedRange<Int> = 0...Int(Int32.max)) throws(Failure) -> Int? {
        guard let text = text(option) else { return nil }
        guard let seconds = TimeLength.seconds(text), range.contains(seconds) else {
            throw .usage("--\(option) \(text): not a length of time", "write it like 30s, 5m, 1h or 1h30m")
        }
        return seconds
    }

    /// The option's value as one of `words`.
    package func choice(_ option: String, of words: [String]) throws(Failure) -> String? {
        guard let text = text(option) else { return nil }
        guard words.contains(text) else {
            throw .usage("--\(option) \(text): not one of \(words.joined(separator: ", "))")
        }
        return text
    }

    /// All values of the option as addresses to listen on or to reach.
    package func addresses(_ option: String) throws(Failure) -> [HostPort] {
        var result: [HostPort] = []
        for text in list(option) {
            guard let address = HostPort(text) else {
                throw .usage("--\(option) \(text): not an address and a port", "write it like 127.0.0.1:443, [::]:443 or :443")
            }
            result.append(address)
        }
        return result
    }
}

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

/// A host and a port as people write them.
package struct HostPort: Equatable, Sendable, CustomStringConvertible {
    /// A name or an address without brackets; empty: every address of this machine.
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// `HOST:PORT`, `[V6]:PORT`, `:PORT` or `PORT`.
    package init?(_ text: String) {
        if let port = Self.port(text) {
            self.init(host: "", port: port)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = Self.port(String(text[text.index(after: colon)...])) else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]"), host.count > 2 {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") || host.contains("[") {
            return nil
        }
        guard !host.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "@") }) else {
            return nil
        }
        self.init(host: host, port: port)
    }

    /// A decimal port, 0–65535.
    package static func port(_ text: String) -> UInt16? {
        guard !text.isEmpty, text.utf8.count <= 5, text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) else {
            return nil
        }
        return UInt16(text)
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
