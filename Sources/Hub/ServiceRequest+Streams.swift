import Audit
import LinuxIO
import Registry
import Serving
import Streams
import Synchronization
import Wire

/// Opening, listing and closing streams (device-streams 3).
extension ServiceRequest {
    /// Errors of this route have the structured form, numbers included (device-streams 3.5).
    func openStream(to client: ClientIdentity, _ streamName: String) throws(Problem) -> HTTPAnswer? {
        do throws(Problem) {
            return try beginStream(to: client, streamName)
        } catch {
            tellRefused(client, streamName, error)
            guard case .registry(let reason) = error else { throw error }
            throw .answer(HTTPAnswer(code: reason.code, errorName: reason.name, message: reason.message))
        }
    }

    /// Notes that a stream has not even begun.
    private func tellRefused(_ client: ClientIdentity, _ streamName: String, _ problem: Problem) {
        let outcome: AuditEvent.Outcome
        switch problem {
        case .registry(.unauthorized), .registry(.forbidden): return  // that has been told
        case .registry(let error): outcome = .failed(named: error.name, error.message)
        case .answer(let answer): outcome = .failed("status-\(answer.status)")
        }
        var event = AuditEvent(
            .stream, "asked", outcome, actor: connection.actor, subject: client.auditName, from: connection.peer?.description ?? "",
            protocol: "https")
        event.detail["name"] = .string(streamName)
        core.audit.record(event)
    }

    private func beginStream(to client: ClientIdentity, _ streamName: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        let principal: ServicePrincipal
        do throws(Problem) {
            principal = try authorize(.serviceConnect)
        } catch {
            // On this route every refusal has one number (device-streams 3.5).
            if case .registry(.unauthorized) = error { throw .registry(.forbidden) }
            throw error
        }
        guard !streamName.isEmpty else { throw .answer(HTTPAnswer(status: 404, errorName: "NotFound", message: "a stream has a name")) }
        guard Identifier.isValidStreamName(streamName) else {
            throw .registry(.argumentInvalid("a stream's name has 1 to 128 characters, no slash and no control characters"))
        }
        guard let patience = StreamTimeouts.parse(head.headers) else {
            throw .registry(.argumentInvalid("a timeout header is not a number of seconds"))
        }
        guard let identity = try reading({ () throws(RegistryError) in try registry.usableIdentity(client) })
        else { throw .answer(HTTPAnswer(code: 403012, errorName: "DeviceDisabled", message: "Device is disabled")) }
        guard core.allotments.open(device: client.deviceID, now: Clock.unixSeconds) else {
            var answer = HTTPAnswer(code: 429001, errorName: "ThrottlingException", message: "too many streams")
            answer.headers.add("Retry-After", "1")
            throw .answer(answer)
        }
        guard let desk = Desk.of(reactor) else {
            core.allotments.close(device: client.deviceID)
            throw .answer(HTTPAnswer(status: 503, errorName: "ServiceUnavailable", message: "the hub is shutting down"))
        }
        let offer = StreamWay.list(head.headers["iotstream-offer"])
        let order = HubStream.Order(
            client: client, name: streamName, patience: patience, offer: offer,
            serviceAuthority: core.authority(of: head), servicePeer: connection.peer?.description ?? "", policy: principal.policy,
            authorization: head.headers["Authorization"], path: (head.pathSegments ?? []).joined(separator: "/"),
            generationID: identity.generationID, becomesLeg: offer.contains(.blind) && BlindHandshake.isAsked(withRequest: head))
        let stream = HubStream(order, requester: connection, desk: desk, on: reactor)
        stream.begin(on: reactor)
        return nil
    }

    func listStreams() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.serviceConnect)
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
        let gathered = Gathering(parts: core.mailboxes.count) { documents in
            mailbox.send { reactor in
                (reactor.source(token) as? HTTPConnection)?.answer(HTTPAnswer(json: .array(documents)), to: serial, on: reactor)
            }
        }
        for mailbox in core.mailboxes {
            let isTaken = mailbox.send { reactor in gathered.add(Desk.of(reactor)?.streams.values.map(\.document) ?? []) }
            if !isTaken { gathered.add([]) }
        }
        return nil
    }

    func closeStream(_ text: String) throws(Problem) -> HTTPAnswer? {
        try methods("DELETE")
        try authorize(.serviceConnect)
        let missing = HTTPAnswer(status: 404, errorName: "NotFound", message: "no such stream")
        guard let identifier = StreamIdentifier(text), identifier.home < core.mailboxes.count else { throw .answer(missing) }
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
        let event = AuditEvent(
            .stream, "closed", actor: connection.actor, subject: "stream:\(identifier)", from: connection.peer?.description ?? "",
            protocol: "https")
        let core = self.core
        core.mailboxes[identifier.home].send { reactor in
            let stream = Desk.of(reactor)?.stream(identifier)
            if stream != nil { core.audit.record(event) }
            stream?.handle(.ordered(.closed), on: reactor)
            let answer = stream == nil ? missing : HTTPAnswer(status: 204)
            mailbox.send { reactor in (reactor.source(token) as? HTTPConnection)?.answer(answer, to: serial, on: reactor) }
        }
        return nil
    }
}

extension Registry {
    /// An identity, or nil when it or its device is disabled.
    func usableIdentity(_ name: ClientIdentity) throws(RegistryError) -> Identity? {
        let found = try identity(name)
        if name.moduleID != nil, let device = ClientIdentity(deviceID: name.deviceID), !(try identity(device).isEnabled) { return nil }
        return found.isEnabled ? found : nil
    }
}

extension RegistryError {
    /// The identity is not there, as opposed to: it could not be read.
    var isAbsence: Bool {
        switch self {
        case .deviceNotFound, .moduleNotFound: true
        default: false
        }
    }
}

/// Parts of one answer that come from several reactors.
private final class Gathering: Sendable {
    private struct State: Sendable {
        var missing: Int
        var documents: [JSONValue] = []
    }

    private let state: Mutex<State>
    private let done: @Sendable ([JSONValue]) -> Void

    init(parts: Int, _ done: @escaping @Sendable ([JSONValue]) -> Void) {
        state = Mutex(State(missing: parts))
        self.done = done
    }

    func add(_ documents: [JSONValue]) {
        let all = state.withLock { state -> [JSONValue]? in
            state.documents += documents
            state.missing -= 1
            return state.missing == 0 ? state.documents : nil
        }
        if let all { done(all) }
    }
}
