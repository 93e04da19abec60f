import Bytes

/// Request line and header fields: RFC 9112 section 3.
package struct HTTPRequestHead: Equatable, Sendable {
    /// As sent: methods are case-sensitive.
    package var method: String
    /// As sent: `/path?query`, `http://host/path`, `*`, or `host:port` for CONNECT. ASCII without spaces and controls.
    package var target: String
    /// 1 of HTTP/1.1.
    package var minorVersion: Int
    package var headers: HTTPHeaders

    package init(method: String, target: String, minorVersion: Int = 1, headers: HTTPHeaders = HTTPHeaders()) {
        self.method = method
        self.target = target
        self.minorVersion = minorVersion
        self.headers = headers
    }

    /// Reads a head up to and including its empty line; one empty line before it is passed over (RFC 9112 section 2.2).
    ///
    /// What it returns is consistent: the framing is one that `HTTPBodyDecoder.forRequest` takes, HTTP/1.1 has its one Host.
    package static func parse(
        _ bytes: RawSpan, limits: HTTPLimits = .standard
    ) throws(HTTPError) -> Parsed<HTTPRequestHead> {
        var start = 0
        if bytes.byteCount > 0, bytes.byte(at: 0) == 0x0D {
            guard bytes.byteCount > 1 else { return .needMoreData(total: 2) }
            guard bytes.byte(at: 1) == 0x0A else { throw .malformedStartLine }
            start = 2
        }
        guard
            let line = try HTTPSyntax.line(
                in: bytes, from: start, limit: limits.startLineBytes, malformed: .malformedStartLine, tooLong: .targetTooLong)
        else { return .needMoreData(total: bytes.byteCount + 1) }
        var head = try requestLine(bytes.extracting(line))
        guard let (headers, end) = try HTTPSyntax.fields(in: bytes, from: line.upperBound + 2, limits: limits)
        else { return .needMoreData(total: bytes.byteCount + 1) }
        head.headers = headers
        _ = try headers.framing(minorVersion: head.minorVersion)
        try head.checkHost()
        return .complete(head, consumed: end)
    }

    private static func requestLine(_ line: RawSpan) throws(HTTPError) -> HTTPRequestHead {
        guard let first = line.firstIndex(of: 0x20), first > 0, let second = line.firstIndex(of: 0x20, from: first + 1),
            second > first + 1
        else { throw .malformedStartLine }
        for index in 0..<first where !ASCII.isToken(line.byte(at: index)) { throw .malformedStartLine }
        for index in first + 1..<second {
            let byte = line.byte(at: index)
            guard byte > 0x20, byte < 0x7F, byte != UInt8(ascii: "#") else { throw .malformedStartLine }
        }
        let minorVersion = try HTTPSyntax.minorVersion(line.extracting(second + 1..<line.byteCount))
        guard let method = line.extracting(0..<first).toString(), let target = line.extracting(first + 1..<second).toString()
        else { throw .malformedStartLine }
        let head = HTTPRequestHead(method: method, target: target, minorVersion: minorVersion)
        guard head.hasKnownTargetForm else { throw .malformedStartLine }
        return head
    }

    /// RFC 9112 section 3.2: origin form, absolute form, authority form for CONNECT, and the asterisk for OPTIONS.
    private var hasKnownTargetForm: Bool {
        if method == "CONNECT" { return HostPort(parsing: target)?.port != nil }
        if target == "*" { return method == "OPTIONS" }
        return target.utf8.first == UInt8(ascii: "/") || pathStart != nil
    }

    /// Whether the field names a host is checked, since it goes into the URLs that are handed out.
    private func checkHost() throws(HTTPError) {
        let count = headers.count(of: "Host")
        guard count == 1 || (count == 0 && minorVersion == 0) else { throw .malformedHost }
        if let host = headers["Host"], !host.isEmpty, HostPort(parsing: host) == nil { throw .malformedHost }
    }
}

extension HTTPRequestHead {
    /// Where the path begins in origin form or absolute form, as an offset in bytes; nil for the other forms.
    private var pathStart: Int? {
        let bytes = target.utf8Span.span.bytes
        if bytes.byteCount > 0, bytes.byte(at: 0) == UInt8(ascii: "/") { return 0 }
        for scheme in ["http://", "https://"] where bytes.byteCount > scheme.utf8.count {
            let authority = scheme.utf8.count
            guard ASCII.equalIgnoringCase(bytes.extracting(0..<authority), scheme) else { continue }
            var end = authority
            while end < bytes.byteCount, bytes.byte(at: end) != UInt8(ascii: "/"), bytes.byte(at: end) != UInt8(ascii: "?") { end += 1 }
            return end > authority ? end : nil
        }
        return nil
    }

    /// The path as sent, without the query: `/devices/a%2Fb`. `/` when the target has none.
    package var path: String {
        guard let start = pathStart else { return "/" }
        let path = target.utf8.dropFirst(start).prefix { $0 != UInt8(ascii: "?") }
        return path.isEmpty ? "/" : String(Substring(path))
    }

    /// The query as sent, without its question mark; nil when there is none.
    package var query: String? {
        guard let mark = target.utf8.firstIndex(of: UInt8(ascii: "?")) else { return nil }
        return String(target[target.utf8.index(after: mark)...])
    }

    /// The path's segments, split first and then decoded: `/a%2Fb/c` is `["a/b", "c"]`, `/` is empty, `/a/` ends in an empty one.
    ///
    /// Nil when an escape is broken or not UTF-8. Dot segments have no meaning here: they name nothing.
    package var pathSegments: [String]? {
        let path = self.path
        if path == "/" { return [] }
        var segments: [String] = []
        for part in path.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            guard let segment = PercentCoding.decode(String(Substring(part))) else { return nil }
            segments.append(segment)
        }
        return segments
    }

    /// The query's `name=value` pairs, decoded, in order; a name alone has an empty value. Nil when an escape is broken.
    package var queryItems: [(name: String, value: String)]? {
        var items: [(name: String, value: String)] = []
        for part in (query ?? "").utf8.split(separator: UInt8(ascii: "&")) {
            let name = part.prefix { $0 != UInt8(ascii: "=") }
            let value = part.dropFirst(name.count + 1)
            guard let name = PercentCoding.decode(String(Substring(name))), let value = PercentCoding.decode(String(Substring(value)))
            else { return nil }
            items.append((name, value))
        }
        return items
    }

    /// The decoded value of the first query item of this name, exactly as spelt; nil when there is none, or the query is broken.
    package func queryValue(_ name: String) -> String? {
        queryItems?.first { $0.name == name }?.value
    }

    /// What the Host field names; nil when it is absent or empty.
    package var host: HostPort? {
        headers["Host"].flatMap { HostPort(parsing: $0) }
    }

    /// Whether another request may follow on the connection: RFC 9112 section 9.3.
    package var keepsAlive: Bool {
        if headers.hasToken("close", in: "Connection") { return false }
        return minorVersion > 0 || headers.hasToken("keep-alive", in: "Connection")
    }

    /// Whether the client waits for `100 Continue` before it sends the body: RFC 9110 section 10.1.1.
    package var expectsContinue: Bool {
        minorVersion > 0 && headers.hasToken("100-continue", in: "Expect")
    }
}
