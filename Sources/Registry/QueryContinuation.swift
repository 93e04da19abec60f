import Query
import Wire

/// Where the next page of a query begins: what stands in `x-ms-continuation`, Base64 for URLs of
/// `1 SP digest of the query SP rows left of TOP or - SP place`.
///
/// It names the last record that was looked at and not a number of rows, so devices that come and go meanwhile neither repeat nor
/// hide others, and it never grows old.
struct QueryContinuation: Equatable {
    enum Place: Equatable {
        /// After the record of this key: of a device, of a module, or of a job at one of them.
        case after(key: String)
        /// After the rows with this digest.
        case afterGroups(UInt64)
    }

    /// Of the query's text, so that a page of another query is not taken for one of this.
    var query: UInt64
    /// Rows that TOP still allows; nil without TOP.
    var rowsLeft: Int?
    var place: Place

    var text: String {
        let what: String
        switch place {
        case .after(let key): what = "k" + key
        case .afterGroups(let digest): what = "g" + String(digest, radix: 16)
        }
        let plain = "1 \(String(query, radix: 16)) \(rowsLeft.map { String($0) } ?? "-") \(what)"
        return String(
            decoding: Base64.encode(plain.utf8).utf8.compactMap { byte -> UInt8? in
                switch byte {
                case UInt8(ascii: "+"): UInt8(ascii: "-")
                case UInt8(ascii: "/"): UInt8(ascii: "_")
                case UInt8(ascii: "="): nil
                default: byte
                }
            }, as: UTF8.self)
    }

    init(query: UInt64, rowsLeft: Int?, place: Place) {
        self.query = query
        self.rowsLeft = rowsLeft
        self.place = place
    }

    /// Nil when the text is none of ours.
    init?(_ text: String) {
        guard text.utf8.count <= 1024 else { return nil }
        var code = text.utf8.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "+") : $0 == UInt8(ascii: "_") ? UInt8(ascii: "/") : $0 }
        while code.count % 4 != 0 { code.append(UInt8(ascii: "=")) }
        guard let bytes = Base64.decode(String(decoding: code, as: UTF8.self)), let plain = String(validating: bytes, as: UTF8.self) else {
            return nil
        }
        let parts = plain.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "1", let query = UInt64(parts[1], radix: 16) else { return nil }
        self.query = query
        if parts[2] != "-" {
            guard let left = Int(parts[2]), left > 0 else { return nil }
            rowsLeft = left
        }
        let rest = String(parts[3].dropFirst())
        switch parts[3].first {
        case "k":
            let ids = rest.split(separator: "\0", omittingEmptySubsequences: false)
            guard ids.count <= 3, ids.allSatisfy({ Identifier.isValidID(String($0)) }) else { return nil }
            place = .after(key: rest)
        case "g":
            guard let digest = UInt64(rest, radix: 16) else { return nil }
            place = .afterGroups(digest)
        default: return nil
        }
    }
}
