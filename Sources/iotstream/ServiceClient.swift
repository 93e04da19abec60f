import Console
import Dialing
import Registry
import Wire

/// The service API of a hub, for tools: one exchange after the other, each waited for.
struct ServiceClient: Sendable {
    private static let version = ("api-version", "2021-04-12")
    /// A token's life, in seconds; long enough for a clock that is a little fast or slow.
    private static let tokenSeconds: Int64 = 600
    private static let clockToleranceSeconds: Int64 = 300

    private let connection: ConnectionString
    private let access: HubAccess

    /// As connection strings name it: with a port when that is not 443.
    var host: HostPort { connection.host }

    /// - Parameters:
    ///   - text: a service's connection string.
    ///   - ca: file with the root that the hub's certificate chains to; nil: the system's store.
    init(connectionString text: String, ca: String?) throws(Failure) {
        let remedy = "iotstream policy connection-string NAME prints a good one"
        do { connection = try ConnectionString(parsing: text) } catch { throw .config("the \(error)", remedy) }
        guard connection.client == nil, connection.policy != nil else {
            throw .config("the connection string is a device's, and this needs a policy's", remedy)
        }
        if let ca { _ = try InputFile.read(ca, limit: 16 << 20) }  // says better what is wrong with it
        do throws(DialError) {
            access = try HubAccess(
                authorityPath: ca, proxies: try ProxyChoice(option: nil, environment: { Environment.text($0) }))
        } catch { throw Failure(error) }
    }

    func get(_ segments: [String], query: [(String, String)] = []) throws(Failure) -> JSONValue {
        try send("GET", segments, nil, query: query)
    }

    /// One exchange; a status that is no success becomes a failure.
    ///
    /// - Parameters:
    ///   - segments: of the path, not encoded.
    ///   - ifMatch: an etag without quotes, or `*`.
    ///   - alsoAccepting: statuses besides 2xx whose body is a result.
    func send(
        _ method: String, _ segments: [String], _ body: JSONValue?, ifMatch: String? = nil, query: [(String, String)] = [],
        alsoAccepting: [Int] = [], answerWithinSeconds: Int = 60
    ) throws(Failure) -> JSONValue {
        try document(
            in: try exchange(
                method, segments, body, ifMatch: ifMatch, query: query, alsoAccepting: alsoAccepting,
                answerWithinSeconds: answerWithinSeconds))
    }

    /// One page of a query's answer.
    func query(_ text: String, rows: Int, continuation: String?) throws(Failure) -> QueryRows {
        try page(["devices", "query"], body: ["query": .string(text)], rows: rows, continuation: continuation)
    }

    /// One page of what a POST finds.
    func page(_ segments: [String], body: JSONValue, rows: Int = 1000, continuation: String?) throws(Failure) -> QueryRows {
        var headers = [("x-ms-max-item-count", String(rows))]
        if let continuation { headers.append(("x-ms-continuation", continuation)) }
        return try self.rows(of: try exchange("POST", segments, body, headers: headers))
    }

    /// A message for a device.
    func send(_ message: CloudMessage, to device: String) throws(Failure) {
        let headers = try asking { () throws(RegistryError) in try MessageFields.headers(of: message) }
        _ = try exchange("POST", ["devices", device, "messages", "deviceBound"], nil, headers: headers, content: message.body)
    }

    /// One page of a list.
    func page(_ segments: [String], query: [(String, String)], rows: Int, continuation: String?) throws(Failure) -> QueryRows {
        var headers = [("x-ms-max-item-count", String(rows))]
        if let continuation { headers.append(("x-ms-continuation", continuation)) }
        return try self.rows(of: try exchange("GET", segments, nil, query: query, headers: headers))
    }

    private func rows(of answer: HubAnswer) throws(Failure) -> QueryRows {
        let next = answer.headers["x-ms-continuation"]
        return QueryRows(
            kind: answer.headers["x-ms-item-type"] ?? "Raw", items: try document(in: answer).array ?? [],
            continuation: next?.isEmpty == false ? next : nil)
    }

    private func exchange(
        _ method: String, _ segments: [String], _ body: JSONValue?, ifMatch: String? = nil, query: [(String, String)] = [],
        headers: [(String, String)] = [], content: [UInt8] = [], alsoAccepting: [Int] = [], answerWithinSeconds: Int = 60
    ) throws(Failure) -> HubAnswer {
        func encoded(_ text: String) -> String { PercentCoding.encode(text, leaving: .unreserved) }
        let path = segments.map { "/" + encoded($0) }.joined()
        let items = ([Self.version] + query).map { "\($0.0)=\(encoded($0.1))" }.joined(separator: "&")
        var request = HubRequest(method, "\(path)?\(items)", headers: ["Accept": "application/json", "Authorization": try token()])
        if let ifMatch { request.headers.add("If-Match", ifMatch == "*" ? "*" : "\"\(ifMatch)\"") }
        for (name, value) in headers { request.headers.add(name, value) }
        if let body {
            request.headers.add("Content-Type", "application/json; charset=utf-8")
            request.body = body.bytes()
        } else {
            request.body = content
        }
        let answer: HubAnswer
        do {
            answer = try HubExchange.perform(
                request, with: connection.host, through: access, answerWithinMilliseconds: answerWithinSeconds * 1000)
        } catch { throw Failure(error) }
        guard 200..<300 ~= answer.status || alsoAccepting.contains(answer.status) else { throw failure(of: answer) }
        return answer
    }

    private func document(in answer: HubAnswer) throws(Failure) -> JSONValue {
        guard !answer.body.isEmpty else { return .null }
        do { return try JSONValue.parse(answer.body) } catch {
            throw .unreachable("\(connection.host) does not answer as a hub: \(error)", "is this the right host and port?")
        }
    }

    private func token() throws(Failure) -> String {
        switch connection.credential {
        case .key(let key)?:
            return SASToken.make(
                resource: connection.host.host, key: key, expiry: Timestamp.now.seconds + Self.tokenSeconds, policy: connection.policy)
        case .signature(let token)?: return token
        case .x509?, nil:
            throw .config("the connection string has no key", "iotstream policy connection-string NAME prints one that does")
        }
    }

    private func failure(of answer: HubAnswer) -> Failure {
        let what = Self.message(in: answer) ?? "\(connection.host) answered \(answer.status) \(HTTPReason.phrase(answer.status))"
        switch answer.status {
        case 401:
            if let seconds = answer.hubSeconds, abs(seconds - Timestamp.now.seconds) > Self.clockToleranceSeconds {
                return .notPermitted(what, "this machine's clock and the hub's differ: set it right")
            }
            return .notPermitted(what, "is the connection string still good, and does its policy have the right?")
        case 403: return .notPermitted(what)
        case 400 where answer.headers["iothub-errorcode"] == "InvalidOperation": return .refused(what)
        case 400, 413: return .data(what)
        case 412: return .tryAgain(what, "somebody else changed it meanwhile: run it again")
        case 429, 500...: return .tryAgain(what, "try again later")
        default: return .refused(what)
        }
    }

    /// What the hub says for people: `Message` is `ErrorCode:Name;text`, or JSON with a `message` (service-rest 3); a
    /// provisioning service has `message` (dps 6.3).
    private static func message(in answer: HubAnswer) -> String? {
        let document = try? JSONValue.parse(answer.body)
        if let said = document?["message"]?.string { return said }
        guard let text = document?["Message"]?.string, !text.isEmpty else { return nil }
        if let inner = (try? JSONValue.parse(text))?["message"]?.string { return inner }
        guard text.hasPrefix("ErrorCode:"), let semicolon = text.firstIndex(of: ";") else { return text }
        let said = text[text.index(after: semicolon)...].drop { $0 == " " }
        return said.isEmpty ? String(text.dropFirst("ErrorCode:".count)) : String(said)
    }
}

extension Failure {
    /// Why the hub could not be asked.
    fileprivate init(_ error: DialError) {
        switch error {
        case .file: self = .noInput("\(error)")
        case .badSetting: self = .config("\(error)")
        case .system: self = .system("\(error)")
        case .unreachable, .timedOut: self = .unreachable("\(error)", "is the hub running, and may this machine reach it?")
        default: self = .unreachable("\(error)")
        }
    }
}
