/// Which keys a role's configuration file may have, and what their values are. A key that is not listed is an error.
package struct ConfigurationSchema: Sendable {
    package enum Kind: Sendable, Equatable {
        /// The rest of the line.
        case text
        /// A decimal integer in this range.
        case integer(ClosedRange<Int>)
        /// A time: a number with `s`, `m`, `h` or `d`, or several (`1h30m`); a bare number counts seconds.
        case seconds
        /// A time in this range.
        case secondsIn(ClosedRange<Int>)
        /// A size: a number, then `B`, `kB`, `MB`, `GB`, `TB` or their first letter in any case. A kilobyte has 1024 bytes.
        case bytes
        /// Bytes per second, as `ByteRate` reads them; 0 or `none` for no limit.
        case rate
        /// Times in a period, as `Frequency` reads them; `none` for no limit.
        case frequency
        /// `yes`, `no`, `true`, `false`, `on`, `off`.
        case boolean
        /// `ADDR:PORT`, `[V6]:PORT`, `:PORT` or `PORT`.
        case address
        /// One of these words.
        case choice([String])
    }

    package struct Key: Sendable {
        package let name: String
        package let kind: Kind
        /// Whether the key may come again, and a line may hold several values with space between.
        package let isList: Bool

        package init(_ name: String, _ kind: Kind, isList: Bool = false) {
            self.name = name
            self.kind = kind
            self.isList = isList
        }

        /// A key that may come again: every value counts, in order.
        package static func list(_ name: String, of kind: Kind = .text) -> Key { Key(name, kind, isList: true) }
    }

    /// `[name]` or `[name title]` and the keys below it.
    package struct Section: Sendable {
        package let name: String
        /// Whether each section has a title: `[certificate hub.example]`. Without titles a section comes once.
        package let hasTitle: Bool
        package let keys: [Key]

        package init(_ name: String, hasTitle: Bool = false, keys: [Key]) {
            self.name = name
            self.hasTitle = hasTitle
            self.keys = keys
        }
    }

    /// Keys before the first section.
    package let keys: [Key]
    package let sections: [Section]

    package init(keys: [Key], sections: [Section] = []) {
        self.keys = keys
        self.sections = sections
    }
}
