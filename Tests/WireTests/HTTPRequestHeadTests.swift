import Bytes
import Testing
import Wire

private func verdict(_ text: String, limits: HTTPLimits = .standard) throws(HTTPError) -> Parsed<HTTPRequestHead> {
    try HTTPRequestHead.parse(text.utf8Span.span.bytes, limits: limits)
}

private func parsed(_ text: String) throws -> HTTPRequestHead {
    guard case .complete(let head, let consumed) = try verdict(text) else { throw HTTPError.truncatedBody }
    #expect(consumed == text.utf8.count)
    return head
}

/// The verdict in words, the same for whole and cut input.
private func outcome(_ bytes: [UInt8], _ range: Range<Int>, _ limits: HTTPLimits = .standard) -> String {
    do {
        switch try HTTPRequestHead.parse(bytes.span.bytes.extracting(range), limits: limits) {
        case .needMoreData: return "more"
        case .complete(let head, let consumed): return "\(head) \(consumed)"
        }
    } catch {
        return "\(error.status) \(error)"
    }
}

private let nodeRequest = """
    POST /twins/dev1/streams/TestStream?api-version=2018-10-20-preview HTTP/1.1\r
    iothub-streaming-connect-timeout-in-seconds: 30\r
    iothub-streaming-response-timeout-in-seconds: 30\r
    Authorization: SharedAccessSignature sr=hub.example.net&sig=x%3D&se=1893456000&skn=service\r
    Request-Id: 0cbb3d4f-9d8a-4a8f-a5f3-74a6d5e2d1ac\r
    User-Agent: azure-iothub/1.10.0-preview.0\r
    Host: hub.example.net\r
    Connection: keep-alive\r
    Content-Length: 0\r
    \r

    """

@Suite struct HTTPRequestHeadTests {
    @Test func readsARequestOfTheField() throws {
        let head = try parsed(nodeRequest)
        #expect(head.method == "POST")
        #expect(head.pathSegments == ["twins", "dev1", "streams", "TestStream"])
        #expect(head.queryValue("api-version") == "2018-10-20-preview")
        #expect(head.headers.count == 8)
        #expect(head.headers["iothub-streaming-connect-timeout-in-seconds"] == "30")
        #expect(head.host == HostPort(host: "hub.example.net", port: nil))
        #expect(head.keepsAlive)
        #expect(try head.headers.framing(minorVersion: 1) == .length(0))
    }

    @Test func asksForMoreUntilTheEmptyLine() {
        let bytes = (nodeRequest + "next").bytes
        let length = nodeRequest.utf8.count
        let whole = outcome(bytes, 0..<bytes.count)
        for end in 0..<bytes.count { #expect(outcome(bytes, 0..<end) == (end < length ? "more" : whole)) }
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", HTTPError.malformedHost),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", .malformedHost),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", .malformedHost),
            ("GET / HTTP/1.1\r\nHost: a/evil\r\n\r\n", .malformedHost),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", .malformedHost),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", .malformedHost),
            ("GET / HTTP/2.0\r\n", .unsupportedVersion),
            ("PRI * HTTP/2.0\r\n", .unsupportedVersion),
            ("GET / HTTP/1.11\r\n", .malformedStartLine),
            ("GET / http/1.1\r\n", .malformedStartLine),
            ("GET /\r\n", .malformedStartLine),
            ("GET  / HTTP/1.1\r\n", .malformedStartLine),
            ("GET / HTTP/1.1 \r\n", .malformedStartLine),
            (" GET / HTTP/1.1\r\n", .malformedStartLine),
            ("G@T / HTTP/1.1\r\n", .malformedStartLine),
            ("GET /a#b HTTP/1.1\r\n", .malformedStartLine),
            ("GET /ä HTTP/1.1\r\n", .malformedStartLine),
            ("GET a HTTP/1.1\r\n", .malformedStartLine),
            ("GET * HTTP/1.1\r\n", .malformedStartLine),
            ("GET ftp://a/ HTTP/1.1\r\n", .malformedStartLine),
            ("GET http:///x HTTP/1.1\r\n", .malformedStartLine),
            ("CONNECT a HTTP/1.1\r\n", .malformedStartLine),
            ("GET / HTTP/1.1\n", .malformedStartLine),
            ("GET / HTTP/1.1\rX", .malformedStartLine),
            ("\r\n\r\n", .malformedStartLine),
            ("\u{16}\u{3}\u{1}", .malformedStartLine),
            ("GET / HTTP/1.1\r\nHost : a\r\n", .malformedHeader),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n", .malformedHeader),
            ("GET / HTTP/1.1\r\n Host: a\r\n", .malformedHeader),
            ("GET / HTTP/1.1\r\n: a\r\n", .malformedHeader),
            ("GET / HTTP/1.1\r\nHost\r\n", .malformedHeader),
            ("GET / HTTP/1.1\r\nHost: a\n", .malformedHeader),
            ("GET / HTTP/1.1\r\nHost: a\rb", .malformedHeader),
            ("GET / HTTP/1.1\r\nHost: a\u{0}", .malformedHeader),
            ("GET / HTTP/1.1\r\nHost: a\u{7F}", .malformedHeader),
            ("GET / HTTP/1.1\r\nHöst: a\r\n", .malformedHeader),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", .bodyTooLarge),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", .malformedFraming),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .unsupportedTransferCoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", .unsupportedTransferCoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{B}chunked\r\n\r\n", .malformedHeader),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", .malformedFraming),
        ] as [(String, HTTPError)])
    func refuses(_ text: String, _ error: HTTPError) {
        #expect(throws: error) { try verdict(text) }
        let bytes = text.bytes
        let whole = outcome(bytes, 0..<bytes.count)
        for end in 0...bytes.count {
            let part = outcome(bytes, 0..<end)
            #expect(part == "more" || part == whole, "cut at \(end)")
        }
    }

    @Test func refusesValuesThatAreNotUTF8() {
        let bytes = "GET / HTTP/1.1\r\nHost: a\r\nX: ".bytes + [0xFF, 0x0D, 0x0A, 0x0D, 0x0A]
        #expect(outcome(bytes, 0..<bytes.count) == "400 malformed header")
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", nil, [String]()),
            ("GET /?a HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a", []),
            ("GET /a%2Fb/c+d?x=1&y HTTP/1.1\r\nHost: a\r\n\r\n", "/a%2Fb/c+d", "x=1&y", ["a/b", "c+d"]),
            ("GET /%24iothub/websocket HTTP/1.1\r\nHost: a:443\r\n\r\n", "/%24iothub/websocket", nil, ["$iothub", "websocket"]),
            ("GET http://h:1/p//q/?z HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", "/p//q/", "z", ["p", "", "q", ""]),
            ("GET HTTPS://h?z HTTP/1.0\r\n\r\n", "/", "z", []),
            ("\r\nOPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", "/", nil, []),
            ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "/a/../b", nil, ["a", "..", "b"]),
        ] as [(String, String, String?, [String])])
    func takesTheTargetApart(_ text: String, _ path: String, _ query: String?, _ segments: [String]) throws {
        let head = try parsed(text)
        #expect(head.path == path)
        #expect(head.query == query)
        #expect(head.pathSegments == segments)
    }

    @Test func brokenEscapesHaveNoSegmentsAndNoItems() throws {
        let head = try parsed("GET /a/%zz?x=%FF HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(head.pathSegments == nil)
        #expect(head.queryItems == nil)
        #expect(head.queryValue("x") == nil)
    }

    @Test func queryItemsAreDecodedInOrder() throws {
        let items = try #require(try parsed("GET /?a=1%262&&b&c=d=e&=f&g=+ HTTP/1.1\r\nHost: a\r\n\r\n").queryItems)
        #expect(items.map(\.name) == ["a", "b", "c", "", "g"])
        #expect(items.map(\.value) == ["1&2", "", "d=e", "f", "+"])
    }

    @Test func keepsWithinItsLimits() {
        var limits = HTTPLimits()
        limits.headBytes = 60
        limits.startLineBytes = 20
        limits.headerCount = 2
        let cases = [
            ("GET /234567 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP"), ("GET /2345678 HTTP/1.1\r\nHost: a\r\n\r\n", "414"),
            ("GET /\(String(repeating: "x", count: 100))", "414"), ("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n", "431"),
            ("GET / HTTP/1.1\r\nHost: a\r\nA: \(String(repeating: "x", count: 100))", "431"),
        ]
        for (text, expected) in cases {
            let whole = outcome(text.bytes, 0..<text.utf8.count, limits)
            #expect(whole.hasPrefix(expected) || (expected == "HTTP" && whole.contains("GET")))
            for end in 0...text.utf8.count {
                let part = outcome(text.bytes, 0..<end, limits)
                #expect(part == "more" || part == whole)
            }
        }
    }

    @Test(arguments: [
        ("HTTP/1.1\r\nHost: a\r\n", true), ("HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", false), ("HTTP/1.0\r\n", false),
        ("HTTP/1.0\r\nConnection: Keep-Alive\r\n", true), ("HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n", false),
    ])
    func knowsWhetherTheConnectionGoesOn(_ rest: String, _ keeps: Bool) throws {
        #expect(try parsed("GET / \(rest)\r\n").keepsAlive == keeps)
    }

    @Test func whatIsWrittenIsReadTheSame() throws {
        let head = try parsed(nodeRequest)
        var output = ByteQueue()
        head.encode(into: &output)
        #expect(output.toArray() == nodeRequest.bytes)
    }

    @Test func noValueBeginsALineOfItsOwn() throws {
        var output = ByteQueue()
        HTTPRequestHead(method: "GET", target: "/a b\r\nX: y", headers: ["Host": "a", "X": "1\r\nEvil: 2", "Bad Name": "3", "Y\r\nZ": "4"])
            .encode(into: &output)
        let text = try #require(output.withBytes { $0.toString() })
        #expect(text == "GET /a%20b%0D%0AX:%20y HTTP/1.1\r\nHost: a\r\nX: 1  Evil: 2\r\n\r\n")
    }
}
