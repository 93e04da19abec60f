import Bytes

/// Status line and header fields: RFC 9112 section 4.
package struct HTTPResponseHead: Equatable, Sendable {
    /// 100 to 999.
    package var status: Int
    /// Nil stands for the standard phrase when writing; reading stores what was sent.
    package var reason: String?
    /// 1 of HTTP/1.1.
    package var minorVersion: Int
    package var headers: HTTPHeaders

    package init(status: Int, reason: String? = nil, minorVersion: Int = 1, headers: HTTPHeaders = HTTPHeaders()) {
        self.status = status
        self.reason = reason
        self.minorVersion = minorVersion
        self.headers = headers
    }

    /// Reads a head up to and including its empty line.
    package static func parse(
        _ bytes: RawSpan, limits: HTTPLimits = .standard
    ) throws(HTTPError) -> Parsed<HTTPResponseHead> {
        guard
            let line = try HTTPSyntax.line(
                in: bytes, from: 0, limit: limits.startLineBytes, malformed: .malformedStartLine, tooLong: .headTooLarge)
        else { return .needMoreData(total: bytes.byteCount + 1) }
        var head = try statusLine(bytes.extracting(line))
        guard let (headers, end) = try HTTPSyntax.fields(in: bytes, from: line.upperBound + 2, limits: limits)
        else { return .needMoreData(total: bytes.byteCount + 1) }
        head.headers = headers
        _ = try headers.framing(minorVersion: head.minorVersion)
        return .complete(head, consumed: end)
    }

    /// `HTTP/1.1 200 OK`; the phrase, and even the space before it, may be missing.
    private static func statusLine(_ line: RawSpan) throws(HTTPError) -> HTTPResponseHead {
        guard line.byteCount >= 12, line.byte(at: 8) == 0x20, line.byteCount == 12 || line.byte(at: 12) == 0x20
        else { throw .malformedStartLine }
        let minorVersion = try HTTPSyntax.minorVersion(line.extracting(0..<8))
        guard let status = ASCII.decimal(line.extracting(9..<12)), status >= 100 else { throw .malformedStartLine }
        let phrase = line.byteCount > 12 ? line.extracting(13..<line.byteCount).toString() ?? "" : ""
        return HTTPResponseHead(status: status, reason: phrase, minorVersion: minorVersion)
    }

    /// Whether another request may follow on the connection: RFC 9112 section 9.3.
    package var keepsAlive: Bool {
        if headers.hasToken("close", in: "Connection") { return false }
        return minorVersion > 0 || headers.hasToken("keep-alive", in: "Connection")
    }
}
