/// A way of carrying a stream's bytes, by the word that names it in offers and choices (iotstream-protocol(7)). A stream for which none
/// is chosen is a plain device stream: a WebSocket whose Close ends both directions.
package enum StreamWay: String, Sendable, CaseIterable {
    /// Legs that leave TLS and HTTP behind and carry one end-to-end session, which the hub cannot read.
    case blind
    /// The same session in the binary messages of WebSocket legs, with half-close.
    case endToEnd = "e2e"
    /// A WebSocket on which an empty binary message is the end of a direction.
    case halfClose = "half-close"

    /// Whether only the two ends can read the stream.
    package var isEndToEnd: Bool { self != .halfClose }

    /// The known words of a comma-separated list, in its order, each once; words of others are passed over.
    package static func list(_ text: String?) -> [StreamWay] {
        var ways: [StreamWay] = []
        for part in (text ?? "").utf8.split(separator: UInt8(ascii: ",")) {
            let word = part.drop(while: isSpace)
            let end = word.lastIndex { !isSpace($0) }.map { word.index(after: $0) } ?? word.startIndex
            if let way = StreamWay(rawValue: String(Substring(word[..<end]))), !ways.contains(way) { ways.append(way) }
        }
        return ways
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    /// The words in this order, as `list` reads them.
    package static func text(_ ways: [StreamWay]) -> String { ways.map(\.rawValue).joined(separator: ", ") }
}
