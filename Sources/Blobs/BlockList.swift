import Wire

/// The body of Put Block List: which blocks make the file, in their order.
///
///     <?xml version="1.0" encoding="utf-8"?>
///     <BlockList><Latest>{id, Base64}</Latest><Committed>…</Committed><Uncommitted>…</Uncommitted></BlockList>
package struct BlockList: Equatable, Sendable {
    /// Where a block is looked for.
    package enum Place: Sendable {
        /// Among the blocks of the file as it is.
        case committed
        /// Among those that were put since.
        case uncommitted
        /// Among those that were put since, and then among the others.
        case latest
    }

    package struct Entry: Equatable, Sendable {
        package let place: Place
        package let id: BlockID
    }

    /// Blocks of one file at most.
    package static let mostBlocks = 50_000

    package let entries: [Entry]

    /// Nil for anything else than such a document. Declarations of types and entities are none.
    package init?(xml: [UInt8]) {
        var reader = Reader(codes: xml[...])
        if reader.codes.starts(with: [0xEF, 0xBB, 0xBF]) { reader.codes.removeFirst(3) }
        reader.skipMisc()
        guard let root = reader.tag(), root.name == "BlockList", !root.isEnd else { return nil }
        var entries: [Entry] = []
        if !root.isEmpty {
            while true {
                reader.skipMisc()
                guard let tag = reader.tag() else { return nil }
                if tag.isEnd {
                    guard tag.name == "BlockList" else { return nil }
                    break
                }
                guard let place = Self.place(tag.name), !tag.isEmpty, entries.count < Self.mostBlocks,
                    let id = BlockID(base64: reader.text()), let end = reader.tag(), end.isEnd, end.name == tag.name
                else { return nil }
                entries.append(Entry(place: place, id: id))
            }
        }
        reader.skipMisc()
        guard reader.codes.isEmpty else { return nil }
        self.entries = entries
    }

    private static func place(_ name: String) -> Place? {
        switch name {
        case "Latest": .latest
        case "Committed": .committed
        case "Uncommitted": .uncommitted
        default: nil
        }
    }

    /// As much of XML as the document needs.
    private struct Reader {
        var codes: ArraySlice<UInt8>

        /// Passes over blanks, comments and processing instructions.
        mutating func skipMisc() {
            while true {
                codes = codes.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D }
                if codes.starts(with: "<?".utf8) {
                    guard skip(behind: "?>") else { return }
                } else if codes.starts(with: "<!--".utf8) {
                    codes.removeFirst(4)
                    guard skip(behind: "-->") else { return }
                } else {
                    return
                }
            }
        }

        private mutating func skip(behind end: StaticString) -> Bool {
            let mark = end.withUTF8Buffer { Array($0) }
            guard let last = mark.last else { return true }
            var index = codes.startIndex
            while let found = codes[index...].firstIndex(of: last) {
                index = found + 1
                guard index - codes.startIndex >= mark.count, codes[(index - mark.count)..<index].elementsEqual(mark) else { continue }
                codes = codes[index...]
                return true
            }
            codes = []
            return false
        }

        /// A tag without attributes that matter.
        mutating func tag() -> (name: String, isEnd: Bool, isEmpty: Bool)? {
            guard codes.first == UInt8(ascii: "<"), let end = codes.firstIndex(of: UInt8(ascii: ">")) else { return nil }
            var inside = codes[(codes.startIndex + 1)..<end]
            codes = codes[(end + 1)...]
            let isEnd = inside.first == UInt8(ascii: "/")
            if isEnd { inside.removeFirst() }
            let isEmpty = inside.last == UInt8(ascii: "/")
            if isEmpty { inside.removeLast() }
            let name = inside.prefix { (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) }
            let rest = inside.dropFirst(name.count)
            guard !name.isEmpty, !(isEnd && isEmpty), rest.first.map({ $0 <= 0x20 }) ?? true, !rest.contains(UInt8(ascii: "<")) else {
                return nil
            }
            return (String(decoding: name, as: UTF8.self), isEnd, isEmpty)
        }

        /// What stands before the next tag, trimmed.
        mutating func text() -> String {
            let text = codes.prefix { $0 != UInt8(ascii: "<") }
            codes = codes.dropFirst(text.count)
            let blanks: (UInt8) -> Bool = { $0 <= 0x20 }
            let trimmed = text.drop(while: blanks)
            return String(decoding: trimmed.dropLast(trimmed.reversed().prefix(while: blanks).count), as: UTF8.self)
        }
    }
}

/// What a block of a file is called: 1 to 64 bytes, written as Base64.
package struct BlockID: Hashable, Sendable {
    package let bytes: [UInt8]

    /// Nil when the text is no Base64, or too short or long.
    package init?(base64: String) {
        guard let bytes = Base64.decode(base64), (1...64).contains(bytes.count) else { return nil }
        self.bytes = bytes
    }

    init?(hex: String) {
        guard let bytes = Hex.decode(hex), (1...64).contains(bytes.count) else { return nil }
        self.bytes = bytes
    }

    /// A file name.
    var hex: String { Hex.encode(bytes) }
}
