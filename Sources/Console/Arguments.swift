import Wire

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
        guard let seconds = ConfigurationValue.seconds(text) else {
            throw .usage("--\(option) \(text): not a length of time", "write it like 30s, 5m, 1h or 1h30m")
        }
        guard range.contains(seconds) else {
            throw .usage("--\(option) \(text): not from \(range.lowerBound) s to \(range.upperBound) s")
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
    package func addresses(_ option: String) throws(Failure) -> [ListenAddress] {
        var result: [ListenAddress] = []
        for text in list(option) {
            guard let address = ListenAddress(parsing: text) else {
                throw .usage("--\(option) \(text): not an address and a port", "write it like 127.0.0.1:443, [::]:443 or :443")
            }
            result.append(address)
        }
        return result
    }
}
