/// The upgrade of a leg to raw bytes, both sides of it (iotstream-protocol(7)). Behind the 101 both sides leave TLS.
package enum BlindHandshake {
    /// The protocol's name in `Upgrade`.
    package static let name = "iotstream-blind"

    /// Whether a request asks for it, rightly or wrongly.
    package static func isAsked(in request: HTTPRequestHead) -> Bool { request.headers.hasToken(name, in: "Upgrade") }

    /// Whether the request for a stream asks for its connection to become the service's leg.
    package static func isAsked(withRequest request: HTTPRequestHead) -> Bool {
        request.minorVersion > 0 && isAsked(in: request) && request.headers.hasToken("upgrade", in: "Connection")
    }

    /// The fields by which it does.
    package static let fields: HTTPHeaders = ["Connection": "Upgrade", "Upgrade": name]

    /// Judges a request on the server's side: nil when it can be taken, else the status of the refusal. Who may upgrade, and where, is
    /// for others to say.
    package static func judge(_ request: HTTPRequestHead) -> Int? {
        let headers = request.headers
        guard isAsked(withRequest: request) else { return 426 }
        let framing = try? headers.framing(minorVersion: request.minorVersion)
        return request.method == "GET" && (framing == HTTPFraming.none || framing == .length(0)) ? nil : 400
    }

    /// The 101.
    package static func answer() -> HTTPResponseHead {
        HTTPResponseHead(status: 101, headers: fields)
    }

    /// The request of a client.
    /// - Parameter bearer: the leg's token.
    package static func request(to url: StreamURL, bearer: String) -> HTTPRequestHead {
        HTTPRequestHead(
            method: "GET", target: url.path,
            headers: [
                "Host": url.authority.description, "Connection": "Upgrade", "Upgrade": name, "Authorization": "Bearer \(bearer)",
            ])
    }

    /// Checks the server's answer on the client's side.
    package static func check(_ response: HTTPResponseHead) throws(WebSocketHandshake.Failure) {
        let headers = response.headers
        guard response.status == 101 else { throw .refused(status: response.status) }
        guard response.minorVersion > 0, headers.hasToken(name, in: "Upgrade"), headers.hasToken("upgrade", in: "Connection") else {
            throw .notAnUpgrade
        }
    }
}
