import Bytes
import LinuxIO
import ServerDouble
import Synchronization
import Testing
import Wire

@testable import Dialing

/// Answers each request's head with a text of the test's; a `%` in it ends the connection there.
private final class Answering: Script {
    let texts: [String]
    var next = 0
    var isFinishing = true

    init(_ texts: [String]) { self.texts = texts }

    func received(_ bytes: RawSpan, _ reply: inout Reply) {
        while let parsed = try? HTTPRequestHead.parse(bytes.extracting(reply.used..<bytes.byteCount)),
            case .complete(let head, let consumed) = parsed
        {
            let body = Int(head.headers["Content-Length"] ?? "") ?? 0
            guard bytes.byteCount - reply.used >= consumed + body else { return }
            reply.used += consumed + body
            guard next < texts.count else { return reply.end = .finish }
            var text = texts[next]
            next += 1
            if text.hasSuffix("%") {
                text.removeLast()
                reply.end = .finish
            }
            reply.output.append(text)
        }
    }
}

@Suite struct HubExchangeTests {
    private func perform(_ texts: [String], milliseconds: Int = 5000) throws -> HubAnswer {
        let server = try ServerDouble { _ in Answering(texts) }
        defer { server.stop() }
        let access = try HubAccess(authorityPath: Credentials.shared.get().rootPath)
        return try HubExchange.perform(
            HubRequest("GET", "/"), with: HostPort(host: "localhost", port: server.port), through: access,
            answerWithinMilliseconds: milliseconds)
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 200, "hello"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, ""),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end%", 200, "until the end"), ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    ])
    func readsAnAnswer(text: String, status: Int, body: String) throws {
        let answer = try perform([text])
        #expect(answer.status == status)
        #expect(answer.text == body)
    }

    @Test(arguments: [
        "%", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello%", "220 mail.example ESMTP\r\n", "HTTP/1.1 200 OK\r\nA: b\u{0}\r\n\r\n",
    ])
    func tellsWhyThereIsNone(text: String) throws {
        #expect(throws: DialError.self) { try perform([text]) }
    }

    @Test func doesNotWaitForEver() throws {
        #expect(throws: DialError.self) { try perform([""], milliseconds: 200) }
    }

    @Test func keepsAConnectionForTheNextRequestAndSurvivesItsDeath() throws {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        let server = try ServerDouble { _ in Answering([ok, ok]) }
        defer { server.stop() }
        let access = try HubAccess(authorityPath: Credentials.shared.get().rootPath)
        let place = HostPort(host: "localhost", port: server.port)
        var statuses: [Int] = []
        try Reactor.runHere { reactor in
            let hub = HubExchange(with: place, through: access)
            func ask(on reactor: Reactor) {
                hub.send(HubRequest("GET", "/"), answerWithinMilliseconds: 5000, on: reactor) { result, reactor in
                    guard case .success(let answer) = result else { return reactor.stop() }
                    statuses.append(answer.status)
                    if statuses.count == 5 { reactor.stop() } else { ask(on: reactor) }
                }
            }
            ask(on: reactor)
        }
        #expect(statuses == [200, 200, 200, 200, 200])
        #expect(server.connectionCount == 3)  // two requests each, the third connection dies with the fifth still to come on it
    }

    @Test func refusesAStrangersCertificate() throws {
        let server = try ServerDouble { _ in Answering([]) }
        defer { server.stop() }
        let access = try HubAccess()
        #expect(throws: DialError.self) {
            try HubExchange.perform(HubRequest("GET", "/"), with: HostPort(host: "localhost", port: server.port), through: access)
        }
    }

    @Test func saysThatNobodyListens() throws {
        let server = try ServerDouble(isPlain: true) { _ in Answering([]) }
        server.stop()
        let access = try HubAccess(authorityPath: Credentials.shared.get().rootPath), place = HostPort(host: "127.0.0.1", port: server.port)
        #expect(throws: DialError.unreachable(place: place.description, reason: "connection refused")) {
            try HubExchange.perform(HubRequest("GET", "/"), with: place, through: access)
        }
    }
}

/// What a proxy says to CONNECT; nothing is tunnelled.
private final class Refusing: Script {
    let text: String
    init(_ text: String) { self.text = text }

    func received(_ bytes: RawSpan, _ reply: inout Reply) {
        guard let parsed = try? HTTPRequestHead.parse(bytes), case .complete(let head, let consumed) = parsed else { return }
        reply.used = consumed
        let isRight = head.method == "CONNECT" && head.target == "hub.example:443" && head.headers["Proxy-Authorization"] == "Basic dTpw"
        reply.output.append(isRight ? text : "HTTP/1.1 400 Bad Request\r\n\r\n")
        if text.isEmpty { reply.end = .finish }
    }
}

@Suite struct ProxyTunnelTests {
    @Test(arguments: [
        ("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", "does not accept the password"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "refused the connection: 503 Service Unavailable"), ("", "hung up"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not answer as an HTTP proxy"),
    ])
    func saysWhatTheProxySaid(text: String, words: String) throws {
        let server = try ServerDouble(isPlain: true) { _ in Refusing(text) }
        defer { server.stop() }
        let proxy = try ProxyServer(parsing: "http://u:p@127.0.0.1:\(server.port)")
        let access = try HubAccess(authorityPath: Credentials.shared.get().rootPath, proxies: ProxyChoice(always: proxy))
        do {
            _ = try HubExchange.perform(HubRequest("GET", "/"), with: HostPort(host: "hub.example", port: nil), through: access)
            Issue.record("went through")
        } catch {
            #expect("\(error)".contains(words))
        }
    }
}

/// Answers an upgrade.
private final class Upgrading: Script {
    let change: (inout HTTPResponseHead) -> Void
    init(_ change: @escaping (inout HTTPResponseHead) -> Void) { self.change = change }

    func received(_ bytes: RawSpan, _ reply: inout Reply) {
        guard let parsed = try? HTTPRequestHead.parse(bytes), case .complete(let head, let consumed) = parsed,
            let key = head.headers["Sec-WebSocket-Key"]
        else { return }
        reply.used = consumed
        var answer = WebSocketHandshake.answer(to: WebSocketHandshake.Offer(key: key, subprotocols: ["mqtt"]), subprotocol: "mqtt")
        answer.headers["Date"] = "Sun, 06 Nov 1994 08:49:37 GMT"
        change(&answer)
        answer.encode(into: &reply.output)
    }
}

@Suite struct WebSocketUpgradeTests {
    private func upgrade(_ change: @escaping @Sendable (inout HTTPResponseHead) -> Void) throws -> Result<Int64, DialError> {
        let server = try ServerDouble { _ in Upgrading(change) }
        defer { server.stop() }
        let access = try HubAccess(authorityPath: Credentials.shared.get().rootPath)
        let url = try #require(StreamURL(parsing: "wss://127.0.0.1:\(server.port)/x"))
        var outcome: Result<Int64, DialError>?
        try Reactor.runHere { reactor in
            WebSocketUpgrade(to: url, through: access, bearer: "t", subprotocols: ["mqtt"], on: reactor) { result, reactor in
                switch consume result {
                case .success(let upgraded): outcome = .success(upgraded.hubSeconds ?? 0)
                case .failure(let error): outcome = .failure(error)
                }
                reactor.stop()
            }
        }
        return try #require(outcome)
    }

    @Test func tellsTheHubsTime() throws {
        #expect(try upgrade { _ in } == .success(784_111_777))
    }

    @Test func tellsTheStatusOfARefusal() throws {
        guard case .failure(.refused(_, 404)) = try upgrade({ $0 = WebSocketHandshake.refusal(status: 404) }) else {
            Issue.record("not refused")
            return
        }
    }

    @Test func refusesAWrongAnswer() throws {
        guard case .failure(.malformed) = try upgrade({ $0.headers["Sec-WebSocket-Accept"] = "x" }) else {
            Issue.record("taken")
            return
        }
    }
}
