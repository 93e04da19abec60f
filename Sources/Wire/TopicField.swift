/// One `key=value` of a topic's last level or of a user name.
package struct TopicField: Hashable, Sendable {
    package var key, value: String

    package init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }

    /// The fields of a text joined by `&`, one leading `?` skipped; each is split at its first `=`.
    /// - Parameter decodes: percent-decodes values; a field that cannot be decoded is left out. Keys are decoded always.
    static func parse(_ text: Substring, decodes: Bool = true) -> [TopicField] {
        let text = text.utf8.first == UInt8(ascii: "?") ? text.dropFirst() : text
        return text.utf8.split(separator: UInt8(ascii: "&")).compactMap { pair in
            let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            let written = parts.count > 1 ? String(Substring(parts[1])) : ""
            guard let key = PercentCoding.decode(String(Substring(parts[0]))),
                let value = decodes ? PercentCoding.decode(written) : written
            else { return nil }
            return TopicField(key, value)
        }
    }

    /// `key=value` with the value's unsafe characters encoded, the key as it stands.
    var encoded: String { "\(key)=\(PercentCoding.encode(value, leaving: .streamURL))" }

    /// Whether the key is one that needs no encoding: a dollar sign if any, then letters, digits, `-._`.
    var hasPlainKey: Bool {
        let name = key.hasPrefix("$") ? key.dropFirst() : Substring(key)
        return Identifier.isValidPolicyName(name)
    }
}

extension [TopicField] {
    /// The first value under a key.
    package subscript(key: String) -> String? { first { $0.key == key }?.value }
}

extension Substring {
    /// What follows a literal prefix, compared byte for byte; nil when the text starts otherwise.
    func after(_ prefix: String) -> Substring? {
        guard utf8.starts(with: prefix.utf8) else { return nil }
        return Substring(utf8.dropFirst(prefix.utf8.count))
    }

    /// A decimal integer: an optional minus, then digits only.
    var plainInteger: Int64? {
        let digits = utf8.first == UInt8(ascii: "-") ? utf8.dropFirst() : utf8[...]
        guard !digits.isEmpty, digits.allSatisfy(ASCII.isDigit) else { return nil }
        return Int64(self)
    }
}
