extension String {
    /// Its words, which spaces and tabs separate: at most `count`, the last of them with all that follows. By bytes: a blank with an
    /// accent is a blank.
    func words(_ count: Int) -> [Substring] {
        func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        var words: [Substring] = []
        var rest = utf8[...]
        while words.count < count {
            rest = rest.drop(while: isBlank)
            guard !rest.isEmpty else { break }
            if words.count == count - 1 {
                while let last = rest.last, isBlank(last) { rest = rest.dropLast() }
                words.append(Substring(rest))
                break
            }
            let word = rest.prefix { !isBlank($0) }
            words.append(Substring(word))
            rest = rest[word.endIndex...]
        }
        return words
    }

    /// Byte for byte; `==` takes a Kelvin sign for a K.
    func isSame(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}

extension Substring {
    /// Whether it begins a comment.
    var isComment: Bool { utf8.first == UInt8(ascii: "#") }
}
