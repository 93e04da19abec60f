import Dialing
import LinuxIO
import Wire

/// A linked hub's service API: few requests at once, on connections that are kept, and the others in their turn.
final class HubClient {
    /// What came of a request.
    enum Reply {
        case answer(Int, JSONValue)
        /// Why there is none; asking again may help.
        case silence(String)
    }

    private struct Waiting {
        let request: HubRequest
        let then: (Reply, Reactor) -> Void
    }

    private let connection: ConnectionString
    private let exchange: HubExchange
    private let atOnce: Int
    private var waiting: [Waiting] = []
    /// Where in `waiting` the next one is.
    private var next = 0
    private var underWay = 0
    private var token: (text: String, until: Int64) = ("", 0)

    init(_ connection: ConnectionString, _ access: HubAccess, atOnce: Int) {
        self.connection = connection
        self.atOnce = atOnce
        exchange = HubExchange(with: connection.host, through: access, bodyLimit: 4 << 20, keeping: atOnce)
    }

    /// Every request may be sent twice.
    ///
    /// - Parameter path: percent-encoded.
    func ask(
        _ method: String, _ path: String, _ body: JSONValue? = nil, ifMatch: String? = nil, on reactor: Reactor,
        _ then: @escaping (Reply, Reactor) -> Void
    ) {
        var request = HubRequest(method, "\(path)?api-version=2021-04-12", headers: ["Accept": "application/json"])
        if let ifMatch { request.headers.add("If-Match", ifMatch) }
        if let body {
            request.headers.add("Content-Type", "application/json; charset=utf-8")
            request.body = body.bytes()
        }
        waiting.append(Waiting(request: request, then: then))
        proceed(on: reactor)
    }

    private func proceed(on reactor: Reactor) {
        while underWay < atOnce, next < waiting.count {
            let first = waiting[next]
            next += 1
            if next == waiting.count || next == 1024 {
                waiting.removeFirst(next)
                next = 0
            }
            underWay += 1
            var request = first.request
            request.headers.add("Authorization", authorization())
            exchange.send(request, answerWithinMilliseconds: 20_000, on: reactor) { [self] result, reactor in
                underWay -= 1
                switch result {
                case .failure(let error):
                    first.then(.silence(error.description), reactor)
                    // It is not there: those that wait need not find that out one by one.
                    let others = waiting[next...]
                    (waiting, next) = ([], 0)
                    for other in others { other.then(.silence(error.description), reactor) }
                case .success(let answer):
                    let json = answer.body.isEmpty ? JSONValue.null : (try? JSONValue.parse(answer.body)) ?? .null
                    first.then(.answer(answer.status, json), reactor)
                }
                proceed(on: reactor)
            }
        }
    }

    private func authorization() -> String {
        let now = Clock.unixSeconds
        if now > token.until, case .key(let key)? = connection.credential {
            let text = SASToken.make(resource: connection.host.host, key: key, expiry: now + 3600, policy: connection.policy)
            token = (text, now + 1800)
        }
        return token.text
    }
}
