/// How often something may happen: `100/s`, `20/min`, `1000/h`.
package struct Frequency: Equatable, Sendable {
    /// At least 1.
    package let count: Int
    package let seconds: Int

    package init(_ count: Int, seconds: Int) {
        self.count = count
        self.seconds = seconds
    }

    /// Nil unless the text is a number from 1 to 1,000,000,000, a slash, and `s`, `min` or `h`.
    package init?(parsing text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let count = ASCII.decimal(parts[0].utf8Span.span.bytes), (1...1_000_000_000).contains(count) else {
            return nil
        }
        switch parts[1] {
        case "s": self.init(count, seconds: 1)
        case "min": self.init(count, seconds: 60)
        case "h": self.init(count, seconds: 3600)
        default: return nil
        }
    }
}
