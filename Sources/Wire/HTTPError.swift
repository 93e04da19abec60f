/// Why HTTP bytes were refused, and what to answer: RFC 9110 section 15.
package enum HTTPError: Error, Equatable, Sendable {
    /// Request line or status line of no known form, or control bytes in it.
    case malformedStartLine
    /// A field line without a colon, with white space before it, folded, with control bytes or not UTF-8.
    case malformedHeader
    /// Content-Length and Transfer-Encoding that contradict themselves or each other (RFC 9112 section 6.3).
    case malformedFraming
    /// HTTP/1.1 without Host, more than one Host, or one that names no host.
    case malformedHost
    /// Chunk sizes, chunk ends or trailers that are none (RFC 9112 section 7.1).
    case malformedChunk
    /// The connection ended before the body did.
    case truncatedBody
    case bodyTooLarge, targetTooLong, headTooLarge
    case unsupportedTransferCoding, unsupportedVersion

    /// The status to answer before closing the connection.
    package var status: Int {
        switch self {
        case .malformedStartLine, .malformedHeader, .malformedFraming, .malformedHost, .malformedChunk, .truncatedBody: 400
        case .bodyTooLarge: 413
        case .targetTooLong: 414
        case .headTooLarge: 431
        case .unsupportedTransferCoding: 501
        case .unsupportedVersion: 505
        }
    }
}

extension HTTPError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .malformedStartLine: "malformed start line"
        case .malformedHeader: "malformed header"
        case .malformedFraming: "contradictory body length"
        case .malformedHost: "missing, repeated or malformed host"
        case .malformedChunk: "malformed chunk"
        case .truncatedBody: "body ended early"
        case .bodyTooLarge: "body too large"
        case .targetTooLong: "request line too long"
        case .headTooLarge: "head too large"
        case .unsupportedTransferCoding: "unsupported transfer coding"
        case .unsupportedVersion: "unsupported version"
        }
    }
}

/// What a head may cost, in bytes and fields.
package struct HTTPLimits: Sendable {
    /// Start line and header fields together, without the empty line.
    package var headBytes = 32 * 1024
    /// The request line or status line, without its line end.
    package var startLineBytes = 8 * 1024
    package var headerCount = 100

    package init() {}

    package static let standard = HTTPLimits()
}
