import Testing
import Wire

private let key = "MDEyMzQ1Njc4OWFiY2RlZg=="

private func upgrade(_ change: (inout HTTPRequestHead) -> Void = { _ in }) -> WebSocketHandshake.Verdict {
    var head = HTTPRequestHead(
        method: "GET", target: "/bridges/x",
        headers: [
            "Host": "h:443", "Upgrade": "WebSocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        ])
    change(&head)
    return WebSocketHandshake.judge(head)
}

@Suite struct WebSocketHandshakeTests {
    /// RFC 6455 section 1.3; device-streams 6.3.
    @Test(arguments: [("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), (key, "BACScCJPNqyz+UBoqMH89VmURoA=")])
    func answersTheKey(_ key: String, _ accept: String) {
        #expect(WebSocketHandshake.accept(forKey: key) == accept)
    }

    @Test func takesAnUpgradeWithItsSubprotocols() {
        #expect(upgrade() == .upgrade(.init(key: key, subprotocols: [])))
        #expect(
            upgrade { $0.headers["Sec-WebSocket-Protocol"] = "MQTT, mqtt" } == .upgrade(.init(key: key, subprotocols: ["MQTT", "mqtt"])))
        #expect(upgrade { $0.headers["Sec-WebSocket-Extensions"] = "permessage-deflate" } == .upgrade(.init(key: key, subprotocols: [])))
    }

    @Test func whatIsNoUpgradeOrOfAnotherVersionIsToldTheVersion() {
        #expect(upgrade { $0.headers["Upgrade"] = nil } == .refuse(status: 426))
        #expect(upgrade { $0.headers["Upgrade"] = "h2c" } == .refuse(status: 426))
        #expect(upgrade { $0.headers["Connection"] = "keep-alive" } == .refuse(status: 426))
        #expect(upgrade { $0.headers["Sec-WebSocket-Version"] = "8" } == .refuse(status: 426))
        #expect(upgrade { $0.headers["Sec-WebSocket-Version"] = nil } == .refuse(status: 426))
        #expect(upgrade { $0.minorVersion = 0 } == .refuse(status: 426))
        let refusal = WebSocketHandshake.refusal(status: 426)
        #expect(refusal.headers["Sec-WebSocket-Version"] == "13")
        #expect(!refusal.keepsAlive)
    }

    @Test func aMalformedUpgradeIsABadRequest() {
        #expect(upgrade { $0.method = "POST" } == .refuse(status: 400))
        #expect(upgrade { $0.headers["Sec-WebSocket-Key"] = nil } == .refuse(status: 400))
        #expect(upgrade { $0.headers.add("Sec-WebSocket-Key", key) } == .refuse(status: 400))
        #expect(upgrade { $0.headers.add("Sec-WebSocket-Version", "13") } == .refuse(status: 400))
        #expect(upgrade { $0.headers["Content-Length"] = "1" } == .refuse(status: 400))
        #expect(upgrade { $0.headers["Transfer-Encoding"] = "chunked" } == .refuse(status: 400))
        #expect(upgrade { $0.headers["Sec-WebSocket-Protocol"] = "a b" } == .refuse(status: 400))
        for bad in ["", "x", "MDEyMzQ1Njc4OWFiY2RlZh==", "MDEyMzQ1Njc4OWFiY2RlZg=", "MDEyMzQ1Njc4OWFiY2Rl*g==", "MDEyMzQ1Njc4OWFiY2RlZmc="]
        {
            #expect(upgrade { $0.headers["Sec-WebSocket-Key"] = bad } == .refuse(status: 400))
        }
    }

    @Test func bothSidesUnderstandEachOther() throws {
        let url = try #require(StreamURL(parsing: "wss://[::1]:8443/bridges/x"))
        let key = WebSocketHandshake.randomKey()
        let request = WebSocketHandshake.request(to: url, key: key, subprotocols: ["mqtt"], headers: ["Authorization": "Bearer t"])
        #expect(request.headers["Host"] == "[::1]:8443")
        guard case .upgrade(let offer) = WebSocketHandshake.judge(request) else {
            Issue.record("refused")
            return
        }
        let answer = WebSocketHandshake.answer(to: offer, subprotocol: offer.subprotocols.first)
        #expect(try WebSocketHandshake.check(answer, key: key, subprotocols: ["mqtt"]) == "mqtt")
        #expect(try WebSocketHandshake.check(WebSocketHandshake.answer(to: offer), key: key, subprotocols: ["mqtt"]) == nil)
    }

    @Test(
        arguments: [
            ("status", WebSocketHandshake.Failure.refused(status: 404)), ("upgrade", .notAnUpgrade), ("connection", .notAnUpgrade),
            ("accept", .wrongAccept), ("extension", .notOffered), ("subprotocol", .notOffered),
        ] as [(String, WebSocketHandshake.Failure)])
    func theClientRefusesAnotherAnswer(_ change: String, _ failure: WebSocketHandshake.Failure) throws {
        guard case .upgrade(let offer) = upgrade() else { return }
        var answer = WebSocketHandshake.answer(to: offer)
        switch change {
        case "status": answer.status = 404
        case "upgrade": answer.headers["Upgrade"] = nil
        case "connection": answer.headers["Connection"] = "close"
        case "accept": answer.headers["Sec-WebSocket-Accept"] = "BACScCJPNqyz+UBoqMH89VmURoB="
        case "extension": answer.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"
        default: answer.headers["Sec-WebSocket-Protocol"] = "amqp"
        }
        #expect(throws: failure) {
            try WebSocketHandshake.check(answer, key: key, subprotocols: ["mqtt"])
        }
    }

    @Test func keysAreNew() {
        #expect(WebSocketHandshake.randomKey() != WebSocketHandshake.randomKey())
        #expect(WebSocketMask.randomKey() != 0)
    }
}
