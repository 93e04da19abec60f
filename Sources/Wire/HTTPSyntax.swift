import Bytes

/// The line grammar that requests, responses and trailers share: RFC 9112 sections 2 and 5.
///
/// Each step looks at bytes from left to right and refuses at the first byte that cannot be mended by later ones, so it
/// does not matter how the input was cut into pieces.
enum HTTPSyntax {
    /// The line that starts at `start`, without its CR LF; nil while its end is not there.
    ///
    /// Bare CR, bare LF and control bytes other than the tab are refused as `malformed`.
    /// - Parameter limit: the longest line in bytes; more is refused as `tooLong`.
    static func line(
        in bytes: RawSpan, from start: Int, limit: Int, malformed: HTTPError, tooLong: HTTPError
    ) throws(HTTPError) -> Range<Int>? {
        let count = bytes.byteCount
        var index = start
        while index < count {
            let byte = bytes.byte(at: index)
            if byte < 0x20 || byte == 0x7F {
                if byte == 0x0D {
                    guard index + 1 < count else { return nil }
                    guard bytes.byte(at: index + 1) == 0x0A else { throw malformed }
                    return start..<index
                }
                guard byte == 0x09 else { throw malformed }
            }
            guard index - start < limit else { throw tooLong }
            index &+= 1
        }
        return nil
    }

    /// The range without the spaces and tabs at its ends.
    static func trimmed(_ bytes: RawSpan, _ range: Range<Int>) -> Range<Int> {
        var (start, end) = (range.lowerBound, range.upperBound)
        while start < end, isBlank(bytes.byte(at: start)) { start += 1 }
        while end > start, isBlank(bytes.byte(at: end - 1)) { end -= 1 }
        return start..<end
    }

    static func isBlank(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09
    }

    /// Where the colon of a field line is: after one token, directly.
    static func colon(in bytes: RawSpan, _ line: Range<Int>) throws(HTTPError) -> Int {
        var index = line.lowerBound
        while index < line.upperBound {
            let byte = bytes.byte(at: index)
            if byte == UInt8(ascii: ":"), index > line.lowerBound { return index }
            guard ASCII.isToken(byte) else { throw .malformedHeader }
            index &+= 1
        }
        throw .malformedHeader
    }

    /// Reads field lines until the empty one. Nil while it is not there, else the fields and the place behind the empty line.
    static func fields(
        in bytes: RawSpan, from start: Int, limits: HTTPLimits
    ) throws(HTTPError) -> (headers: HTTPHeaders, end: Int)? {
        var headers = HTTPHeaders()
        headers.reserveCapacity(16)
        var position = start
        while true {
            let limit = max(0, limits.headBytes - position)
            guard let line = try line(in: bytes, from: position, limit: limit, malformed: .malformedHeader, tooLong: .headTooLarge)
            else { return nil }
            position = line.upperBound + 2
            if line.isEmpty { return (headers, position) }
            guard headers.count < limits.headerCount else { throw .headTooLarge }
            let colon = try colon(in: bytes, line)
            guard let name = bytes.extracting(line.lowerBound..<colon).toString(),
                let value = bytes.extracting(trimmed(bytes, colon + 1..<line.upperBound)).toString()
            else { throw .malformedHeader }
            headers.add(name, value)
        }
    }

    /// The minor version of `HTTP/1.x`.
    static func minorVersion(_ bytes: RawSpan) throws(HTTPError) -> Int {
        guard bytes.byteCount == 8, bytes.extracting(0..<5).equals("HTTP/"), bytes.byte(at: 6) == UInt8(ascii: "."),
            ASCII.isDigit(bytes.byte(at: 5)), ASCII.isDigit(bytes.byte(at: 7))
        else { throw .malformedStartLine }
        guard bytes.byte(at: 5) == UInt8(ascii: "1") else { throw .unsupportedVersion }
        return Int(bytes.byte(at: 7) &- 0x30)
    }
}
