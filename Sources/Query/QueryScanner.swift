import Wire

/// Reads the words, signs and literals of a query one after the other. Each reading begins behind white space.
struct QueryScanner {
    let text: [UInt8]
    private(set) var place = 0

    init(_ text: String) { self.text = Array(text.utf8) }

    var isAtEnd: Bool { place >= text.count }
    private var current: UInt8? { place < text.count ? text[place] : nil }

    func error(_ reason: String, at place: Int? = nil) -> QuerySyntaxError {
        let end = min(place ?? self.place, text.count)
        return QuerySyntaxError(position: text[..<end].count { $0 & 0xC0 != 0x80 } + 1, reason: reason)
    }

    mutating func skipSpace() {
        while let byte = current, byte == 0x20 || (0x09...0x0D).contains(byte) { place += 1 }
    }

    // MARK: - Signs

    /// Whether the sign stands here, without taking it.
    func sees(_ sign: StaticString) -> Bool {
        let count = sign.utf8CodeUnitCount
        guard text.count - place >= count else { return false }
        return (0..<count).allSatisfy { text[place + $0] == sign.utf8Start[$0] }
    }

    /// Takes the sign when it stands here, and the white space behind it.
    mutating func takes(_ sign: StaticString) -> Bool {
        guard sees(sign) else { return false }
        place += sign.utf8CodeUnitCount
        skipSpace()
        return true
    }

    /// Takes one byte, and no white space behind it: inside of paths there is none.
    mutating func takeOne() { place = min(place + 1, text.count) }

    mutating func expect(_ sign: StaticString, _ reason: String) throws(QuerySyntaxError) {
        guard takes(sign) else { throw error(reason) }
    }

    // MARK: - Words

    private static func beginsWord(_ byte: UInt8) -> Bool {
        let letter = ASCII.lowercased(byte)
        return (0x61...0x7A).contains(letter) || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "$") || byte >= 0x80
    }

    private static func continuesWord(_ byte: UInt8) -> Bool { beginsWord(byte) || ASCII.isDigit(byte) }

    /// The word that stands here, without taking it; nil when there is none.
    func word() -> String? {
        guard let byte = current, Self.beginsWord(byte) else { return nil }
        return String(decoding: text[place...].prefix(while: Self.continuesWord), as: UTF8.self)
    }

    /// A word, or behind a full stop also one that begins with a digit.
    mutating func takeName() -> String? {
        let bytes = text[place...].prefix(while: Self.continuesWord)
        guard !bytes.isEmpty else { return nil }
        place = bytes.endIndex
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Takes `word()` and the white space behind it.
    mutating func skip(word: String) {
        place += word.utf8.count
        skipSpace()
    }

    /// Whether the key word stands here, in any case.
    func sees(keyword: String) -> Bool {
        guard let word = word() else { return false }
        return ASCII.equalIgnoringCase(word, keyword)
    }

    /// Takes the key word when it stands here, in any case.
    mutating func takes(keyword: String) -> Bool {
        guard let word = word(), ASCII.equalIgnoringCase(word, keyword) else { return false }
        skip(word: word)
        return true
    }

    /// What stands between `[[` and `]]`, as it is.
    mutating func takeDoubleBracket() throws(QuerySyntaxError) -> String {
        let start = place + 2
        var end = start
        while end + 1 < text.count, text[end] != UInt8(ascii: "]") || text[end + 1] != UInt8(ascii: "]") { end += 1 }
        guard end + 1 < text.count else { throw error("[[ without ]]") }
        guard end > start else { throw error("a name is missing between [[ and ]]") }
        place = end + 2
        return String(decoding: text[start..<end], as: UTF8.self)
    }

    // MARK: - Literals

    var seesDigit: Bool {
        guard let byte = current else { return false }
        return ASCII.isDigit(byte) || (byte == UInt8(ascii: ".") && place + 1 < text.count && ASCII.isDigit(text[place + 1]))
    }

    var seesQuote: Bool { current == UInt8(ascii: "'") || current == UInt8(ascii: "\"") }

    /// A number without sign: decimal, with fraction and exponent, or hexadecimal.
    mutating func takeNumber() throws(QuerySyntaxError) -> JSONValue {
        let start = place
        if sees("0x") || sees("0X") {
            place += 2
            while let byte = current, ASCII.hexValue(byte) != nil { place += 1 }
            guard place > start + 2, let value = Int64(String(decoding: text[(start + 2)..<place], as: UTF8.self), radix: 16) else {
                throw error("not a hexadecimal number of 64 bits", at: start)
            }
            return try number(.integer(value))
        }
        takeDigits()
        var isWhole = true
        if current == UInt8(ascii: ".") {
            place += 1
            takeDigits()
            isWhole = false
        }
        if let byte = current, ASCII.lowercased(byte) == UInt8(ascii: "e") {
            place += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { place += 1 }
            takeDigits()
            isWhole = false
        }
        let digits = String(decoding: text[start..<place], as: UTF8.self)
        if isWhole, let value = Int64(digits) { return try number(.integer(value)) }
        guard let value = Double(digits), value.isFinite else { throw error("not a number", at: start) }
        return try number(.double(value))
    }

    private mutating func takeDigits() {
        while let byte = current, ASCII.isDigit(byte) { place += 1 }
    }

    private mutating func number(_ value: JSONValue) throws(QuerySyntaxError) -> JSONValue {
        if let byte = current, Self.continuesWord(byte) { throw error("a number runs into a word") }
        skipSpace()
        return value
    }

    /// A text in quotes of either kind; a doubled quote in it is one.
    mutating func takeText() throws(QuerySyntaxError) -> String {
        let start = place
        let quote = text[place]
        var bytes: [UInt8] = []
        place += 1
        while let byte = current {
            place += 1
            switch byte {
            case quote:
                guard current == quote else {
                    skipSpace()
                    return String(decoding: bytes, as: UTF8.self)
                }
                place += 1
                bytes.append(quote)
            case UInt8(ascii: "\\"): bytes.append(contentsOf: String(try takeEscaped()).utf8)
            default: bytes.append(byte)
            }
        }
        throw error("the text that begins here has no end", at: start)
    }

    private mutating func takeEscaped() throws(QuerySyntaxError) -> Unicode.Scalar {
        let start = place - 1
        guard let byte = current else { throw error("the text has no end", at: start) }
        place += 1
        switch byte {
        case UInt8(ascii: "'"), UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let first = try takeUnit(of: start)
            if let scalar = Unicode.Scalar(first) { return scalar }
            guard (0xD800...0xDBFF).contains(first), sees("\\u") else { throw error("half a character in \\u", at: start) }
            place += 2
            let second = try takeUnit(of: start)
            guard (0xDC00...0xDFFF).contains(second),
                let scalar = Unicode.Scalar(0x10000 + (UInt32(first & 0x3FF) << 10) + UInt32(second & 0x3FF))
            else { throw error("half a character in \\u", at: start) }
            return scalar
        default: throw error("an unknown escape in a text", at: start)
        }
    }

    private mutating func takeUnit(of start: Int) throws(QuerySyntaxError) -> UInt16 {
        var unit: UInt16 = 0
        for _ in 0..<4 {
            guard let digit = current.flatMap(ASCII.hexValue) else { throw error("\\u needs four hexadecimal digits", at: start) }
            unit = unit << 4 | UInt16(digit)
            place += 1
        }
        return unit
    }
}
