import Audit
import Connections
import Enrollments
import LinuxIO
import Serving
import Wire

/// What comes over HTTPS: devices' MQTT in a WebSocket, devices' requests (dps 3), and the service API (dps 14).
extension ProvisioningCore: HTTPService {
    var servingLimits: ServingLimits { server.limits }

    static let webSocketPaths: Set = ["/", "/$iothub/websocket", "/%24iothub/websocket", "/%24iothub%2Fwebsocket"]

    func begin(_ head: HTTPRequestHead, on connection: HTTPConnection, _ reactor: Reactor) -> HTTPCourse {
        if Self.webSocketPaths.contains(head.path), head.headers.contains("Upgrade") { return upgrade(head, on: reactor) }
        return .body(
            ProvisioningBody(limit: servingLimits.requestBytes) { [self, unowned connection] content in
                let request = ProvisioningHTTPRequest(core: self, head: head, body: content, connection: connection, reactor: reactor)
                return request.serve()
            })
    }

    private func upgrade(_ head: HTTPRequestHead, on reactor: Reactor) -> HTTPCourse {
        switch WebSocketHandshake.judge(head) {
        case .refuse(let status): return .noUpgrade(status)
        case .upgrade(let offer):
            guard let subprotocol = offer.subprotocols.first(where: { ASCII.equalIgnoringCase($0, "mqtt") }) else { return .noUpgrade(400) }
            return .upgrade(reactor.mailbox) { channel, reactor in
                var response = WebSocketHandshake.answer(to: offer, subprotocol: subprotocol)
                response.headers.add("Date", HTTPDate.text(Clock.unixSeconds))
                var channel = channel
                response.encode(into: &channel.output)
                return ProvisioningConnection(channel, core: self, framing: DeviceFraming(.webSocket))
            }
        }
    }
}

/// What of a hub's listeners is meant for the service: whatever names it as host; device requests and CONNECTs of the service's form.
extension ProvisioningCore: Neighbour {
    private static let collections: Set = ["enrollments", "enrollmentGroups", "registrations", "linkedHubs"]

    func owns(_ head: HTTPRequestHead) -> Bool {
        if let host = head.host?.host, !server.answers(to: host), names.contains(where: { ASCII.equalIgnoringCase($0, host) }) {
            return true
        }
        let path = head.path.utf8.split(separator: UInt8(ascii: "/"), maxSplits: 2)
        guard let first = path.first.map({ String(Substring($0)) }) else { return false }
        if Self.collections.contains(first) { return true }
        // A hub has paths of this form too, as a device may be called so; its first segments are words.
        guard path.count == 3, path[1].elementsEqual("registrations".utf8) else { return false }
        return first.utf8.contains(where: ASCII.isDigit) || first == (try? enrollments.settings().scope)
    }

    func owns(_ connect: MQTTConnect) -> Bool {
        guard let name = connect.userName.flatMap({ ProvisioningUserName($0, clientID: connect.clientID) }) else { return false }
        return !server.answers(to: name.scope)
    }

    func takesWebSocket(on path: String) -> Bool { Self.webSocketPaths.contains(path) }

    func adopt(_ channel: consuming Channel, _ framing: consuming DeviceFraming) -> Connection {
        ProvisioningConnection(channel, core: self, framing: framing)
    }
}

/// The body of a request, whose refusal has this service's form.
private final class ProvisioningBody: CollectedBody {
    override func refusal(status: Int, _ reason: String) -> HTTPAnswer {
        HTTPAnswer(DeviceAnswer(.refused(code: status * 1000, reason)))
    }
}

extension HTTPAnswer {
    init(_ answer: ServiceAnswer) {
        if let json = answer.json { self.init(status: answer.status, json: json) } else { self.init(status: answer.status) }
        for field in answer.headers.fields { headers.add(field.name, field.value) }
    }

    /// An answer to a device, or an error document (dps 6.3).
    init(_ answer: DeviceAnswer) {
        self.init(status: answer.status, json: answer.body)
        if let seconds = answer.retryAfter { headers.add("Retry-After", String(seconds)) }
        if answer.status >= 400, let code = answer.body["errorCode"]?.integer { headers.add("x-ms-error-code", String(code)) }
        headers.add("Strict-Transport-Security", "max-age=31536000")
    }
}

/// One request of a device or a service.
private struct ProvisioningHTTPRequest {
    let core: ProvisioningCore
    let head: HTTPRequestHead
    let body: [UInt8]
    let connection: HTTPConnection
    let reactor: Reactor

    /// Nil when the answer comes later.
    func serve() -> HTTPAnswer? {
        guard let path = head.pathSegments else { return refusal(400004, "the path is not percent-encoded UTF-8") }
        // {scope}/registrations/{id}[/register | /operations/{operation}]
        guard path.count >= 3, path[1] == "registrations", !EnrollmentService.roots.contains(path[0]) else { return service() }
        guard let version = head.queryValue("api-version"), ProvisioningUserName.isVersion(version) else {
            return refusal(400004, "api-version is missing or is no date")
        }
        let caller = DeviceCaller(
            scope: path[0], registrationID: path[2], apiVersion: version, token: head.headers["Authorization"],
            from: connection.peer?.description ?? "", transport: "https")
        let certificates = connection.certificates
        switch (path.count, path.dropFirst(3).first) {
        case (3, _): return only("POST") ?? HTTPAnswer(core.lookUp(caller, certificates, body: body))
        case (5, "operations"): return only("GET") ?? HTTPAnswer(core.poll(caller, certificates, operation: path[4]))
        case (4, "register"):
            if let refusal = only("PUT") { return refusal }
            let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
            let start = "https://\(head.headers["Host"] ?? "")\(String(head.path.utf8.dropLast("/register".utf8.count)) ?? "")"
            core.register(caller, certificates, body: body) { answer in
                mailbox.send { reactor in
                    var made = HTTPAnswer(answer)
                    if let operation = answer.operation {
                        made.headers.add("Location", "\(start)/operations/\(operation)?api-version=\(version)")
                    }
                    (reactor.source(token) as? HTTPConnection)?.answer(made, to: serial, on: reactor)
                }
            }
            return nil
        default: return refusal(404204, "no such resource")
        }
    }

    private func refusal(_ code: Int, _ message: String) -> HTTPAnswer { HTTPAnswer(DeviceAnswer(.refused(code: code, message))) }

    private func only(_ method: String) -> HTTPAnswer? {
        guard head.method != method else { return nil }
        var answer = refusal(405000, "use \(method)")
        answer.headers.add("Allow", method)
        return answer
    }

    /// The service API, off the reactor: a query may read many records.
    private func service() -> HTTPAnswer? {
        let core = self.core, head = self.head, body = self.body, from = connection.peer?.description ?? ""
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
        let send = { @Sendable (answer: ServiceAnswer) in
            _ = mailbox.send { reactor in (reactor.source(token) as? HTTPConnection)?.answer(HTTPAnswer(answer), to: serial, on: reactor) }
        }
        core.server.files.submit {
            let turn = EnrollmentService(core.enrollments).serve(head, body: body, .token(hosts: core.names, now: Clock.unixSeconds))
            let actor = turn.policy.map { "policy:\($0)" } ?? ""
            @Sendable func note(_ kind: AuditEvent.Kind, _ action: String, _ outcome: AuditEvent.Outcome, _ subject: String = "") {
                core.audit.record(AuditEvent(kind, action, outcome, actor: actor, subject: subject, from: from, protocol: "https"))
            }
            if let refusal = turn.refusal { note(.authentication, "service", .refused(refusal.code, refusal.words)) }
            switch turn.step {
            case .answer(let answer): send(answer)
            case .commit(let command, let answer):
                core.enrollments.submit(command, to: core.writer) { result in
                    for deed in command.deeds(result) {
                        note(.enrollment, deed.action, deed.failure.map { .failed(String($0.code), $0.message) } ?? .ok, deed.subject)
                    }
                    switch result {
                    case .success(let done): send(answer(done))
                    case .failure(let error): send(ServiceAnswer(error))
                    }
                }
            }
        }
        return nil
    }
}
