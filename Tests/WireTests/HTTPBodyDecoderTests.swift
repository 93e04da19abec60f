import Bytes
import Testing
import Wire

private func decode(_ framing: HTTPFraming, _ bytes: [UInt8], _ pieces: [Range<Int>], limit: Int) -> String {
    do {
        var decoder = try HTTPBodyDecoder(framing, limit: limit)
        var body = ByteQueue()
        var consumed = 0
        for piece in pieces where !decoder.isFinished {
            consumed += try decoder.decode(bytes.span.bytes.extracting(piece), into: &body).consumed
        }
        return "\(String(decoding: body.toArray(), as: UTF8.self)) \(consumed) \(decoder.isFinished ? "finished" : "more")"
    } catch {
        return "\(error.status)"
    }
}

@Suite struct HTTPBodyDecoderTests {
    @Test(
        arguments: [
            (HTTPFraming.none, "next", " 0 finished"),
            (.length(0), "next", " 0 finished"),
            (.length(4), "bodynext", "body 4 finished"),
            (.length(4), "bod", "bod 3 more"),
            (.length(101), "", "413"),
            (.untilClose, "anything", "anything 8 more"),
            (.untilClose, String(repeating: "x", count: 101), "413"),
            (.chunked, "0\r\n\r\nnext", " 5 finished"),
            (.chunked, "5\r\nhello\r\n0\r\n\r\nnext", "hello 15 finished"),
            (.chunked, "5\r\nhello\r\n00a\r\n0123456789\r\n000\r\n\r\n", "hello0123456789 34 finished"),
            (.chunked, "5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\nT: 1\r\nU: 2\r\n\r\n!", "hello 41 finished"),
            (.chunked, "5 \r\nhello\r\n0\t\r\n\r\n", "hello 17 finished"),
            (.chunked, "5\r\nhel", "hel 6 more"),
            (.chunked, "\r\n", "400"),
            (.chunked, "x\r\n", "400"),
            (.chunked, "5\nhello", "400"),
            (.chunked, "5\rhello", "400"),
            (.chunked, "-5\r\n", "400"),
            (.chunked, "0x5\r\n", "400"),
            (.chunked, " 5\r\n", "400"),
            (.chunked, "5;\u{1}\r\n", "400"),
            (.chunked, "5;a\n", "400"),
            (.chunked, "5\r\nhello!\r\n", "400"),
            (.chunked, "5\r\nhello\n", "400"),
            (.chunked, "0\r\nT: \u{0}\r\n\r\n", "400"),
            (.chunked, "0\r\nT: 1\n\r\n", "400"),
            (.chunked, "65\r\n", "413"),
            (.chunked, "5\r\nhello\r\n60\r\n", "413"),
            (.chunked, "ffffffffffffffffffff\r\n", "413"),
            (.chunked, "00000000000000000001\r\n", "413"),
            (.chunked, "0;\(String(repeating: "x", count: 9000))\r\n", "400"),
            (.chunked, "0\r\n\(String(repeating: "a: b\r\n", count: 3000))", "400"),
        ] as [(HTTPFraming, String, String)])
    func isTheSameInPieces(_ framing: HTTPFraming, _ text: String, _ expected: String) {
        let bytes = text.bytes
        #expect(decode(framing, bytes, [0..<bytes.count], limit: 100) == expected)
        guard bytes.count < 200 else { return }
        for pieces in splits(of: bytes.count) { #expect(decode(framing, bytes, pieces, limit: 100) == expected) }
    }

    @Test(
        arguments: [
            ("GET", 200, HTTPHeaders(), false), ("HEAD", 200, ["Content-Length": "5"], true), ("GET", 204, [:], true),
            ("GET", 304, [:], true),
            ("GET", 101, [:], true), ("CONNECT", 200, [:], true), ("CONNECT", 502, ["Content-Length": "5"], false),
            ("GET", 200, ["Content-Length": "0"], true), ("GET", 200, ["Transfer-Encoding": "Chunked"], false),
        ] as [(String, Int, HTTPHeaders, Bool)])
    func aResponseHasTheBodyItsRequestCallsFor(_ method: String, _ status: Int, _ headers: HTTPHeaders, _ finished: Bool) throws {
        let decoder = try HTTPBodyDecoder.forResponse(HTTPResponseHead(status: status, headers: headers), toMethod: method, limit: 10)
        #expect(decoder.isFinished == finished)
    }

    @Test func aRequestWithoutLengthHasNoBody() throws {
        #expect(try HTTPBodyDecoder.forRequest(HTTPRequestHead(method: "POST", target: "/"), limit: 10).isFinished)
    }

    @Test func theEndOfInputEndsOnlyWhatEndsSo() throws {
        var open = try HTTPBodyDecoder(.untilClose, limit: 10)
        try open.endOfInput()
        #expect(open.isFinished)
        var counted = try HTTPBodyDecoder(.length(3), limit: 10)
        #expect(throws: HTTPError.truncatedBody) { try counted.endOfInput() }
        var chunked = try HTTPBodyDecoder(.chunked, limit: 10)
        #expect(throws: HTTPError.truncatedBody) { try chunked.endOfInput() }
    }
}
