/// One line of a configuration file, taken apart from its start. White space is spaces, tabs and a carriage return at the end.
struct ConfigurationLine {
    private var rest: Substring.UTF8View
    private let number: Int

    init(_ text: Substring, number: Int) {
        rest = text.utf8
        self.number = number
        skipSpace()
    }

    private static func isSpace(_ code: UInt8) -> Bool {
        code == UInt8(ascii: " ") || code == UInt8(ascii: "\t") || code == UInt8(ascii: "\r")
    }

    private mutating func skipSpace() {
        while let first = rest.first, Self.isSpace(first) { rest.removeFirst() }
    }

    /// Whether nothing is left but a comment.
    var isEmpty: Bool { rest.isEmpty || rest.first == UInt8(ascii: "#") }

    private func error(_ reason: String) -> ConfigurationError { ConfigurationError(line: number, reason: reason) }

    /// `[name]` or `[name title]`; nil when the line is no header.
    mutating func header() throws(ConfigurationError) -> (name: String, title: String?)? {
        guard rest.first == UInt8(ascii: "[") else { return nil }
        rest.removeFirst()
        guard let close = rest.lastIndex(of: UInt8(ascii: "]")) else { throw error("section without ]") }
        var inside = ConfigurationLine(Substring(rest[..<close]), number: number)
        rest = rest[rest.index(after: close)...]
        skipSpace()
        guard isEmpty else { throw error("text after a section's ]") }
        let name = inside.word()
        guard !name.isEmpty else { throw error("section without a name") }
        if inside.isEmpty { return (name, nil) }
        let title = try inside.value(isLast: true)
        return (name, title)
    }

    /// Takes the characters up to the next white space, and that space.
    mutating func word() -> String {
        let word = rest.prefix { !Self.isSpace($0) }
        rest = rest[word.endIndex...]
        skipSpace()
        return String(Substring(word))
    }

    /// What a key stands for on this line: one value, or for a list at least one.
    mutating func values(of key: ConfigurationSchema.Key) throws(ConfigurationError) -> [ConfigurationValue] {
        guard !isEmpty else { throw error("\(key.name) needs a value") }
        guard rest.first != UInt8(ascii: "=") else { throw error("write \(key.name) and its value without =") }
        var values: [ConfigurationValue] = []
        repeat {
            let text = try value(isLast: !key.isList)
            guard !text.utf8.contains(0) else { throw error("NUL in a value") }
            guard let value = ConfigurationValue(text, as: key.kind) else { throw error(Self.expectation(of: key)) }
            values.append(value)
        } while !isEmpty
        return values
    }

    /// A quoted text, or up to white space, or for the last one up to a comment or the end of the line.
    private mutating func value(isLast: Bool) throws(ConfigurationError) -> String {
        if rest.first == UInt8(ascii: "\"") {
            let text = try quoted()
            guard rest.first.map(Self.isSpace) ?? true else { throw error("text after a closing quote") }
            skipSpace()
            guard !isLast || isEmpty else { throw error("text after a closing quote") }
            return text
        }
        if !isLast { return word() }
        var codes: [UInt8] = []
        for code in rest {
            if code == UInt8(ascii: "#"), let last = codes.last, Self.isSpace(last) { break }
            codes.append(code)
        }
        rest = rest[rest.endIndex...]
        while let last = codes.last, Self.isSpace(last) { codes.removeLast() }
        return String(decoding: codes, as: UTF8.self)
    }

    /// What stands between quotes; a backslash there takes the next quote or backslash as it is.
    private mutating func quoted() throws(ConfigurationError) -> String {
        var codes: [UInt8] = []
        rest.removeFirst()
        while let code = rest.popFirst() {
            switch code {
            case UInt8(ascii: "\""): return String(decoding: codes, as: UTF8.self)
            case UInt8(ascii: "\\"):
                guard let next = rest.popFirst(), next == UInt8(ascii: "\"") || next == UInt8(ascii: "\\") else {
                    throw error("a backslash in quotes goes before a quote or a backslash")
                }
                codes.append(next)
            default: codes.append(code)
            }
        }
        throw error("quote without an end")
    }

    private static func expectation(of key: ConfigurationSchema.Key) -> String {
        switch key.kind {
        case .text: "\(key.name) is malformed"
        case .integer(let range): "\(key.name) takes a number from \(range.lowerBound) to \(range.upperBound)"
        case .seconds: "\(key.name) takes a time such as 10s, 5m or 1h"
        case .secondsIn(let range): "\(key.name) takes a time from \(range.lowerBound)s to \(range.upperBound)s"
        case .rate: "\(key.name) takes a rate such as 1MB/s, 500kB/s, 10Mbit/s, or none"
        case .frequency: "\(key.name) takes a number per second, minute or hour such as 100/s, 20/min, 1000/h, or none"
        case .bytes: "\(key.name) takes a size such as 4096, 64kB or 1MB"
        case .boolean: "\(key.name) takes yes or no"
        case .address: "\(key.name) takes ADDRESS:PORT"
        case .choice(let words): "\(key.name) takes one of \(words.joined(separator: ", "))"
        }
    }
}
