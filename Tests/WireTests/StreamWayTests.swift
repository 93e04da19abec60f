import Testing
import Wire

@Suite struct StreamWayTests {
    @Test func readsTheWordsItKnows() {
        let cases: [(String?, [StreamWay])] = [
            (nil, []), ("", []), (",", []), ("half-close", [.halfClose]), ("blind, e2e, half-close", [.blind, .endToEnd, .halfClose]),
            (" e2e\t,blind ,e2e", [.endToEnd, .blind]), ("quic, blind", [.blind]), ("Blind", []), ("blind;q=1", []), ("b lind", []),
        ]
        for (text, ways) in cases { #expect(StreamWay.list(text) == ways, "\(text ?? "nil")") }
        #expect(StreamWay.text([.blind, .endToEnd, .halfClose]) == "blind, e2e, half-close")
    }

    @Test func theUpgradeToRawBytesIsAskedForAndAnswered() throws {
        let url = try #require(StreamURL(parsing: "wss://hub.example:8443/bridges/x"))
        let request = BlindHandshake.request(to: url, bearer: "token")
        #expect(BlindHandshake.isAsked(in: request) && BlindHandshake.judge(request) == nil)
        #expect(request.headers["Host"] == "hub.example:8443" && request.headers["Authorization"] == "Bearer token")
        try BlindHandshake.check(BlindHandshake.answer())
    }

    @Test func otherRequestsAndAnswersAreRefused() throws {
        let url = try #require(StreamURL(parsing: "wss://hub.example:8443/bridges/x"))
        var request = BlindHandshake.request(to: url, bearer: "token")
        request.headers["Content-Length"] = "5"
        #expect(BlindHandshake.judge(request) == 400)
        request = BlindHandshake.request(to: url, bearer: "token")
        request.headers["Connection"] = "close"
        #expect(BlindHandshake.judge(request) == 426)
        #expect(throws: WebSocketHandshake.Failure.refused(status: 404)) { try BlindHandshake.check(HTTPResponseHead(status: 404)) }
        var answer = BlindHandshake.answer()
        answer.headers["Upgrade"] = "websocket"
        #expect(throws: WebSocketHandshake.Failure.notAnUpgrade) { try BlindHandshake.check(answer) }
    }
}
