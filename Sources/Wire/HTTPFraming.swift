import Bytes

/// How the end of a body is known: RFC 9112 section 6.
package enum HTTPFraming: Equatable, Sendable {
    case none
    /// Bytes.
    case length(Int)
    case chunked
    /// A response that ends with its connection.
    case untilClose
}

extension HTTPHeaders {
    /// What Content-Length and Transfer-Encoding say, `none` when both are absent.
    ///
    /// Whatever two readers could understand in two ways is refused: both fields together, a repeated Content-Length, one that
    /// is not digits, "chunked" anywhere but once and last, and transfer codings in HTTP/1.0.
    package func framing(minorVersion: Int) throws(HTTPError) -> HTTPFraming {
        var length: Int?
        var hasCoding = false, chunked = false, foreign = false
        for field in fields {
            if ASCII.equalIgnoringCase(field.name, "Content-Length") {
                guard length == nil, !field.value.isEmpty, field.value.utf8.allSatisfy(ASCII.isDigit) else { throw .malformedFraming }
                guard let value = ASCII.decimal(field.value.utf8Span.span.bytes) else { throw .bodyTooLarge }
                length = value
            } else if ASCII.equalIgnoringCase(field.name, "Transfer-Encoding") {
                hasCoding = true
            }
        }
        guard hasCoding else { return length.map { .length($0) } ?? .none }
        guard length == nil, minorVersion > 0 else { throw .malformedFraming }
        let codings = tokens(in: "Transfer-Encoding")
        for coding in codings {
            guard !chunked else { throw .malformedFraming }
            if ASCII.equalIgnoringCase(coding, "chunked") { chunked = true } else { foreign = true }
        }
        guard chunked else { throw codings.isEmpty ? .malformedFraming : .unsupportedTransferCoding }
        guard !foreign else { throw .unsupportedTransferCoding }
        return .chunked
    }
}
