import Wire

/// Which bytes of a file a request wants: RFC 9110 section 14, one range of bytes.
package enum BlobRange: Equatable, Sendable {
    /// Nothing is said, or nothing that means something here.
    case whole
    case part(Range<Int>)
    /// No byte of the file is meant.
    case none

    /// - Parameters:
    ///   - text: `bytes={first}-{last}`, `bytes={first}-` or `bytes=-{count}`.
    ///   - size: of the file.
    package init(_ text: String?, of size: Int) {
        guard let text, text.utf8.starts(with: "bytes=".utf8) else {
            self = .whole
            return
        }
        let ends = text.utf8.dropFirst(6).split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard ends.count == 2, ends.allSatisfy({ $0.allSatisfy(ASCII.isDigit) }) else {
            self = .whole
            return
        }
        // What 64 bits cannot hold lies behind the end of every file.
        func number(_ digits: Substring.UTF8View) -> Int? { digits.isEmpty ? nil : Int(Substring(digits)) ?? .max }
        switch (number(ends[0]), number(ends[1])) {
        case (nil, nil): self = .whole
        case (let first?, let last?) where last < first: self = .whole
        case (let first?, let last): self = first < size ? .part(first..<(min(last ?? size, size - 1) + 1)) : .none
        case (nil, let count?): self = count > 0 && size > 0 ? .part(max(0, size - count)..<size) : .none
        }
    }
}
