/// The condition of a write (service-rest 4).
package enum IfMatch: Equatable, Sendable {
    case absent
    /// Any document that exists.
    case any
    case etag(String)

    /// - Parameter header: the field `If-Match` as received: `"*"`, `*`, `"MTIz"`, `W/"MTIz"` or `MTIz`.
    package init(header: String?) {
        var text = Substring(header ?? "")
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        guard !text.isEmpty else {
            self = .absent
            return
        }
        if text.hasPrefix("W/") { text.removeFirst(2) }
        if text.utf8.count >= 2, text.first == "\"", text.last == "\"" { text = text.dropFirst().dropLast() }
        self = text == "*" ? .any : .etag(String(text))
    }
}
