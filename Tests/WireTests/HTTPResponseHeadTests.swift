import Bytes
import Testing
import Wire

private func parsed(_ text: String) throws(HTTPError) -> HTTPResponseHead {
    guard case .complete(let head, let consumed) = try HTTPResponseHead.parse(text.utf8Span.span.bytes) else { throw .truncatedBody }
    #expect(consumed == text.utf8.count)
    return head
}

@Suite struct HTTPResponseHeadTests {
    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\n\r\n", 200, "OK"), ("HTTP/1.1 204\r\n\r\n", 204, ""), ("HTTP/1.0 404 \r\n\r\n", 404, ""),
        ("HTTP/1.1 504 Gateway Time out\r\n\r\n", 504, "Gateway Time out"),
    ])
    func readsTheStatusLine(_ text: String, _ status: Int, _ reason: String) throws {
        let head = try parsed(text)
        #expect(head.status == status)
        #expect(head.reason == reason)
        for end in 0..<text.utf8.count {
            let part = try HTTPResponseHead.parse(text.utf8Span.span.bytes.extracting(0..<end))
            guard case .needMoreData(let total) = part else {
                Issue.record("complete at \(end)")
                return
            }
            #expect(total > end && total <= text.utf8.count)
        }
    }

    @Test(
        arguments: [
            ("HTTP/1.1 20 OK\r\n", HTTPError.malformedStartLine), ("HTTP/1.1 2000 OK\r\n", .malformedStartLine),
            ("HTTP/1.1 099 OK\r\n", .malformedStartLine), ("HTTP/1.1  200 OK\r\n", .malformedStartLine),
            ("ICY 200 OK\r\n", .malformedStartLine),
            ("HTTP/2.0 200 OK\r\n", .unsupportedVersion), ("SSH-2.0-OpenSSH_9.2\r\n", .malformedStartLine),
            ("HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n", .malformedHeader),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", .malformedFraming),
        ] as [(String, HTTPError)])
    func refuses(_ text: String, _ error: HTTPError) {
        #expect(throws: error) { try parsed(text) }
    }

    @Test func writesTheStandardPhraseAndTheBody() throws {
        var output = ByteQueue()
        HTTPResponseHead(status: 404, headers: ["iothub-errorcode": "DeviceNotFound"]).encode(body: "{}", into: &output)
        let text = try #require(output.withBytes { $0.toString() })
        #expect(text == "HTTP/1.1 404 Not Found\r\niothub-errorcode: DeviceNotFound\r\nContent-Length: 2\r\n\r\n{}")
    }

    @Test func bodilessStatusesGetNoLength() throws {
        var output = ByteQueue()
        HTTPResponseHead(status: 204).encode(body: "", into: &output)
        #expect(output.withBytes { $0.toString() } == "HTTP/1.1 204 No Content\r\n\r\n")
    }

    @Test func aReasonCannotBeginALine() throws {
        var output = ByteQueue()
        HTTPResponseHead(status: 200, reason: "a\r\nX: b", headers: ["A": "b\nc"]).encode(into: &output)
        #expect(output.withBytes { $0.toString() } == "HTTP/1.1 200 a  X: b\r\nA: b c\r\n\r\n")
    }
}
