import Bytes
import COpenSSL

/// The upgrade from HTTP/1.1 to WebSocket, both sides of it: RFC 6455 section 4.
package enum WebSocketHandshake {
    /// What a valid upgrade request asks for.
    package struct Offer: Equatable, Sendable {
        /// The value of Sec-WebSocket-Key.
        package let key: String
        /// As offered, in order of preference.
        package let subprotocols: [String]

        package init(key: String, subprotocols: [String]) {
            self.key = key
            self.subprotocols = subprotocols
        }
    }

    package enum Verdict: Equatable, Sendable {
        case upgrade(Offer)
        /// 400 or 426.
        case refuse(status: Int)
    }

    /// Why the answer to our upgrade request is not the one we need.
    package enum Failure: Error, Equatable, Sendable {
        /// Another status than 101.
        case refused(status: Int)
        case notAnUpgrade
        case wrongAccept
        /// An extension, or a subprotocol that we did not offer.
        case notOffered
    }

    /// The value of Sec-WebSocket-Accept for a key (section 4.2.2).
    package static func accept(forKey key: String) -> String {
        let input = Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)
        var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
        SHA1(input, input.count, &digest)
        return Base64.encode(digest)
    }

    /// A new key for a client: 16 random bytes.
    package static func randomKey() -> String {
        Base64.encode([UInt8].random(count: 16))
    }

    /// Judges a request on the server's side. Who may upgrade, and where, is for others to say.
    ///
    /// 426 goes with `Sec-WebSocket-Version: 13`: `refusal` has it.
    package static func judge(_ request: HTTPRequestHead) -> Verdict {
        let headers = request.headers
        guard request.minorVersion > 0, headers.hasToken("websocket", in: "Upgrade"), headers.hasToken("upgrade", in: "Connection")
        else { return .refuse(status: 426) }
        guard let version = headers.single("Sec-WebSocket-Version") else {
            return .refuse(status: headers.contains("Sec-WebSocket-Version") ? 400 : 426)
        }
        guard version == "13" else { return .refuse(status: 426) }
        let framing = try? headers.framing(minorVersion: request.minorVersion)
        guard request.method == "GET", framing == HTTPFraming.none || framing == .length(0), let key = headers.single("Sec-WebSocket-Key"),
            Base64.decode(key)?.count == 16
        else { return .refuse(status: 400) }
        let subprotocols = headers.tokens(in: "Sec-WebSocket-Protocol")
        guard subprotocols.count <= 32, subprotocols.allSatisfy(ASCII.isToken) else { return .refuse(status: 400) }
        return .upgrade(Offer(key: key, subprotocols: subprotocols))
    }

    /// The 101. Extensions are never agreed on.
    /// - Parameter subprotocol: one of those offered, spelt as offered, or none.
    package static func answer(to offer: Offer, subprotocol: String? = nil) -> HTTPResponseHead {
        var headers: HTTPHeaders = [
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept(forKey: offer.key),
        ]
        if let subprotocol { headers.add("Sec-WebSocket-Protocol", subprotocol) }
        return HTTPResponseHead(status: 101, headers: headers)
    }

    /// A refusal without a body, after which the connection ends. A 426 names the version that we speak.
    package static func refusal(status: Int) -> HTTPResponseHead {
        var headers: HTTPHeaders = ["Connection": "close", "Content-Length": "0"]
        if status == 426 {
            headers["Connection"] = "Upgrade, close"
            headers.add("Upgrade", "websocket")
            headers.add("Sec-WebSocket-Version", "13")
        }
        return HTTPResponseHead(status: status, headers: headers)
    }

    /// The request of a client.
    /// - Parameters:
    ///   - key: from `randomKey`; kept for `check`.
    ///   - headers: what else is sent, Authorization for one.
    package static func request(
        to url: StreamURL, key: String, subprotocols: [String] = [], headers: HTTPHeaders = HTTPHeaders()
    ) -> HTTPRequestHead {
        var all: HTTPHeaders = [
            "Host": url.authority.description, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        ]
        if !subprotocols.isEmpty { all.add("Sec-WebSocket-Protocol", subprotocols.joined(separator: ", ")) }
        for field in headers.fields { all.add(field.name, field.value) }
        return HTTPRequestHead(method: "GET", target: url.path, headers: all)
    }

    /// Checks the server's answer on the client's side, and tells the subprotocol that was chosen, if any.
    package static func check(
        _ response: HTTPResponseHead, key: String, subprotocols: [String] = []
    ) throws(Failure) -> String? {
        let headers = response.headers
        guard response.status == 101 else { throw .refused(status: response.status) }
        guard response.minorVersion > 0, headers.hasToken("websocket", in: "Upgrade"), headers.hasToken("upgrade", in: "Connection")
        else { throw .notAnUpgrade }
        guard headers.single("Sec-WebSocket-Accept") == accept(forKey: key) else { throw .wrongAccept }
        guard headers.tokens(in: "Sec-WebSocket-Extensions").isEmpty else { throw .notOffered }
        guard headers.contains("Sec-WebSocket-Protocol") else { return nil }
        guard let chosen = headers.single("Sec-WebSocket-Protocol"), subprotocols.contains(chosen) else { throw .notOffered }
        return chosen
    }
}
