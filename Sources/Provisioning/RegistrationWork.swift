import Audit
import Console
import Dialing
import Enrollments
import LinuxIO
import Wire

/// One registration on its way: the webhook's word if one is to be asked, the device in its hub, the end on the disk.
///
/// Every step may be taken again: after a crash of this service the work begins anew with what the store has of it, and a hub that does
/// not answer is asked again until the time is over.
///
///     webhook ─► plan ─► create ┬─────────────────────────────────────► finish
///                        keep   ┤ the device is there, its key too
///                        reset  ┴─► its twin is the initial one
///                        move: twin of the old hub ─► create ─► copied ─► gone from the old hub
final class RegistrationWork {
    /// Milliseconds between two questions to a hub that does not answer.
    private static let shortestPause = 250, longestPause = 5000

    private unowned let bench: RegistrationBench
    private var operation: RegistrationOperation
    private let deadline: UInt64
    private var pause = shortestPause
    private var timer: Timer?
    private var hasFailedWebhook = false

    init(_ operation: RegistrationOperation, at bench: RegistrationBench, on reactor: Reactor) {
        self.operation = operation
        self.bench = bench
        deadline = reactor.now + UInt64(bench.core.configuration.limits.hubSeconds) * 1000
    }

    private var id: String { operation.id }

    /// Goes on with what the operation needs next.
    func proceed(on reactor: Reactor) {
        if let call = operation.webhook { return askWebhook(call, on: reactor) }
        guard let plan = operation.plan, !operation.hasEnded else { return end(on: reactor) }
        switch plan.work {
        case .create: insert(plan, Self.twin(of: plan), then: .finish, on: reactor)
        case .keep: renew(plan, then: .finish, on: reactor)
        case .reset: renew(plan, then: .reset, on: reactor)
        case .move: plan.copied == nil ? fetch(plan, on: reactor) : leave(plan, on: reactor)
        }
    }

    // The device in its hub

    /// What follows once the device is in its hub.
    private enum Next {
        case finish
        /// Its twin is made the plan's.
        case reset
        /// It may go from the old hub; whether the twin came along.
        case copied(Bool)
    }

    /// First contents of a device: members of an entry of the bulk request.
    private static func twin(of plan: AssignmentPlan) -> JSONObject {
        var members = JSONObject()
        if let tags = plan.twin?["tags"] { members["tags"] = tags }
        if let desired = plan.twin?["properties"]?["desired"] { members["properties"] = ["desired": desired] }
        return members
    }

    /// Has the hub make the device with its twin, all at once; renews the one that is there.
    private func insert(_ plan: AssignmentPlan, _ twin: JSONObject, then next: Next, on reactor: Reactor) {
        var entry: JSONValue = [
            "id": .string(plan.deviceID), "importMode": "create", "status": "enabled", "authentication": operation.authentication,
            "capabilities": ["iotEdge": .bool(plan.isEdge)],
        ]
        for (name, value) in twin { entry[name] = value }
        ask(plan.hub, "POST", "/devices", [entry], accepting: [400], on: reactor) { [self] status, json, reactor in
            if status == 200 { return go(next, plan, on: reactor) }
            let error = json["errors"]?.array?.first
            guard error?["errorCode"]?.string == "DeviceAlreadyExists" || error?["errorCode"]?.integer == 409001 else {
                return fail(plan.hub, status, error?["errorStatus"]?.string ?? json["Message"]?.string ?? "", on: reactor)
            }
            // Whoever begins anew at a hub where the device is known to it does not keep what its twin was there.
            if case .copied(false) = next { renew(plan, then: .reset, on: reactor) } else { renew(plan, then: next, on: reactor) }
        }
    }

    /// Has the hub take the device's credentials of now, if it has others.
    private func renew(_ plan: AssignmentPlan, then next: Next, on reactor: Reactor) {
        let path = "/devices/\(Self.encoded(plan.deviceID))"
        ask(plan.hub, "GET", path, accepting: [404], on: reactor) { [self] status, json, reactor in
            if status == 404 { return insert(plan, Self.twin(of: plan), then: next, on: reactor) }
            let known = json["capabilities"]?["iotEdge"]?.bool ?? false
            if Self.holds(json["authentication"] ?? .null, operation.authentication), known == plan.isEdge {
                return go(next, plan, on: reactor)
            }
            var document = json
            document["authentication"] = operation.authentication
            document["capabilities"] = ["iotEdge": .bool(plan.isEdge)]
            ask(
                plan.hub, "PUT", path, document, ifMatch: "\"\(json["etag"]?.string ?? "*")\"", accepting: [404, 412], on: reactor
            ) { [self] status, _, reactor in
                // Somebody else was faster: once more from the beginning.
                if status == 200 { go(next, plan, on: reactor) } else { renew(plan, then: next, on: reactor) }
            }
        }
    }

    /// Whether a document has all that another has, strings without regard to case: thumbprints may be in either.
    private static func holds(_ whole: JSONValue, _ part: JSONValue) -> Bool {
        guard let members = part.object else { return whole == part }
        return members.allSatisfy { name, value in whole[name].map { holds($0, value) } ?? false }
    }

    private func go(_ next: Next, _ plan: AssignmentPlan, on reactor: Reactor) {
        switch next {
        case .finish: finish(.assigned(migrated: false))
        case .copied(let migrated): submit(.noteCopied(operation: id, migrated: migrated))
        case .reset:
            let twin: JSONValue = [
                "tags": plan.twin?["tags"] ?? [:], "properties": ["desired": plan.twin?["properties"]?["desired"] ?? [:]],
            ]
            ask(plan.hub, "PUT", "/twins/\(Self.encoded(plan.deviceID))", twin, ifMatch: "*", on: reactor) { [self] _, _, reactor in
                go(plan.work == .move ? .copied(false) : .finish, plan, on: reactor)
            }
        }
    }

    // From hub to hub

    /// Reads what the twin has at the old hub, and makes the device in the new one with it.
    private func fetch(_ plan: AssignmentPlan, on reactor: Reactor) {
        guard plan.migrates, let old = plan.previousHub, isLinked(old) else {
            return insert(plan, Self.twin(of: plan), then: .copied(false), on: reactor)
        }
        let device = plan.previousDeviceID ?? plan.deviceID
        ask(old, "GET", "/twins/\(Self.encoded(device))", accepting: [404], on: reactor) { [self] status, json, reactor in
            guard status == 200 else { return insert(plan, Self.twin(of: plan), then: .copied(false), on: reactor) }
            var members = JSONObject()
            members["tags"] = json["tags"] ?? [:]
            var properties: JSONValue = [:]
            for section in ["desired", "reported"] {
                guard var content = json["properties"]?[section]?.object else { continue }
                for key in ["$metadata", "$version"] { content[key] = nil }
                properties[section] = .object(content)
            }
            members["properties"] = properties
            for name in ["status", "statusReason", "capabilities"] { members[name] = json[name].flatMap { $0.isNull ? nil : $0 } }
            insert(plan, members, then: .copied(true), on: reactor)
        }
    }

    /// Removes the device from the old hub.
    private func leave(_ plan: AssignmentPlan, on reactor: Reactor) {
        guard let old = plan.previousHub, isLinked(old) else { return finish(.assigned(migrated: false)) }
        let path = "/devices/\(Self.encoded(plan.previousDeviceID ?? plan.deviceID))"
        ask(old, "DELETE", path, ifMatch: "*", accepting: [404], on: reactor) { [self] _, _, _ in finish(.assigned(migrated: false)) }
    }

    private func isLinked(_ hub: String) -> Bool { ((try? bench.core.enrollments.hub(hub)) ?? nil) != nil }

    // The webhook

    private func askWebhook(_ call: WebhookCall, on reactor: Reactor) {
        let scheme = "https://"
        guard call.url.hasPrefix(scheme), let access = try? bench.webhookAccess() else {
            return submit(.answer(operation: id, .silence))
        }
        let rest = call.url.utf8.dropFirst(scheme.utf8.count), end = rest.firstIndex { "/?".utf8.contains($0) } ?? rest.endIndex
        guard let place = HostPort(parsing: String(Substring(rest[..<end]))) else { return submit(.answer(operation: id, .silence)) }
        let tail = String(Substring(rest[end...]))
        let request = HubRequest(
            "POST", tail.hasPrefix("/") ? tail : "/\(tail)", headers: ["Content-Type": "application/json; charset=utf-8"],
            body: call.body.bytes())
        HubExchange(with: place, through: access, bodyLimit: 1 << 20, keeping: 0)
            .send(request, answerWithinMilliseconds: 5000, on: reactor) { [self] result, reactor in
                guard !bench.isClosing else { return }
                switch result {
                case .success(let answer) where answer.status < 500 || hasFailedWebhook:
                    submit(.answer(operation: id, WebhookAnswer(status: answer.status, body: answer.body)))
                case .failure where hasFailedWebhook: submit(.answer(operation: id, .silence))
                default:
                    hasFailedWebhook = true
                    retry(on: reactor)
                }
            }
    }

    // What the steps share

    private static func encoded(_ text: String) -> String { PercentCoding.encode(text, leaving: .unreserved) }

    /// Asks a hub, again and again until the time is over if it does not answer or has no time; then the registration has failed. So it
    /// has with a status that is neither 2xx nor in `accepted`.
    private func ask(
        _ hub: String, _ method: String, _ path: String, _ body: JSONValue? = nil, ifMatch: String? = nil, accepting accepted: [Int] = [],
        on reactor: Reactor, _ then: @escaping (Int, JSONValue, Reactor) -> Void
    ) {
        let client: HubClient
        do throws(EnrollmentError) {
            guard let found = try bench.client(of: hub) else { throw .refused(code: 404211, "\(hub) is not linked any more") }
            client = found
        } catch {
            return finish(.failed(code: error.code, message: error.message))
        }
        client.ask(method, path, body, ifMatch: ifMatch, on: reactor) { [self] reply, reactor in
            switch reply {
            case .answer(let status, let json) where 200..<300 ~= status || accepted.contains(status): then(status, json, reactor)
            case .answer(let status, let json) where status < 500 && status != 429 && status != 408:
                fail(hub, status, json["Message"]?.string ?? "", on: reactor)
            case .answer(let status, _): later("\(hub) answered \(status)", on: reactor)
            case .silence(let reason): later(reason, on: reactor)
            }
        }
    }

    private func later(_ reason: String, on reactor: Reactor) {
        guard !bench.isClosing else { return }
        guard reactor.now < deadline else { return finish(.failed(code: 503210, message: "The hub could not be reached: \(reason)")) }
        if pause == Self.shortestPause { Log.info("hub-silent", ["registration": operation.registrationID, "reason": reason]) }
        retry(on: reactor)
    }

    /// Begins anew with what the store has, after a pause.
    private func retry(on reactor: Reactor) {
        if timer == nil { timer = Timer(on: reactor) { [weak self] _, reactor in self?.proceed(on: reactor) } }
        timer?.set(inMilliseconds: pause, on: reactor)
        pause = min(2 * pause, Self.longestPause)
    }

    private func fail(_ hub: String, _ status: Int, _ message: String, on reactor: Reactor) {
        let reason = status == 401 ? "IotHubUnauthorizedAccess" : String(message.prefix(200))
        finish(.failed(code: status == 401 ? 401210 : 400210, message: "\(hub) refused the device: \(reason)"))
    }

    private func finish(_ end: RegistrationEnd) { submit(.finish(operation: id, end)) }

    /// Writes what has come of a step, and goes on with what is written then.
    private func submit(_ command: EnrollmentCommand) {
        let core = bench.core, id = self.id
        core.enrollments.submit(command, to: core.writer) { result in
            core.desk.go { reactor in
                guard let work = (reactor.resident as? RegistrationBench)?.work(id) else { return }
                work.written(result, on: reactor)
            }
        }
    }

    private func written(_ result: Result<EnrollmentOutcome, EnrollmentError>, on reactor: Reactor) {
        switch result {
        case .success(let outcome):
            guard let operation = outcome.operation else { return end(on: reactor) }
            self.operation = operation
            guard operation.hasEnded else { return proceed(on: reactor) }
            note()
            end(on: reactor)
        case .failure(let error):
            Log.error("registration-unwritten", ["registration": operation.registrationID, "reason": error.message])
            if case .store = error { retry(on: reactor) } else { end(on: reactor) }
        }
    }

    private func end(on reactor: Reactor) {
        if let timer { reactor.remove(timer) }
        bench.forget(id)
    }

    private func note() {
        let state = operation.state, hub = state?["assignedHub"]?.string
        var detail = JSONObject()
        detail["enrollment"] = .string(operation.enrollment.id)
        if let hub { detail["hub"] = .string(hub) }
        detail["substatus"] = state?["substatus"]
        let outcome: AuditEvent.Outcome =
            hub != nil ? .ok : .failed(state?["errorCode"]?.integer.map { String($0) } ?? "failed", state?["errorMessage"]?.string ?? "")
        bench.core.audit.record(
            AuditEvent(
                .registration, "assign", outcome, actor: "dps", subject: "device:\(state?["deviceId"]?.string ?? operation.registrationID)",
                detail: detail))
    }
}
