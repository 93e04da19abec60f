import Bytes
import LinuxIO
import Registry
import Serving
import Streams
import Wire

/// One request of the service API: who may, what is meant, and the answer, at once or later.
struct ServiceRequest {
    let core: HubCore
    let head: HTTPRequestHead
    let body: [UInt8]
    let connection: HTTPConnection
    let reactor: Reactor

    var registry: Registry { core.registry }

    /// Why a request is answered with an error.
    enum Problem: Error {
        case registry(RegistryError)
        case answer(HTTPAnswer)
    }

    /// Nil when the answer comes later.
    func serve() -> HTTPAnswer? {
        do throws(Problem) {
            guard let segments = head.pathSegments else { throw .registry(.argumentInvalid("the path is not percent-encoded UTF-8")) }
            return try route(segments)
        } catch {
            switch error {
            case .registry(let error): return HTTPAnswer(error)
            case .answer(let answer): return answer
            }
        }
    }

    private func route(_ segments: [String]) throws(Problem) -> HTTPAnswer? {
        switch (segments.first, segments.count) {
        case ("devices", 1): return try devices()
        case ("devices", 2) where segments[1] == "query" && head.method == "POST": return try query()
        case ("devices", 2): return try identity(try name(segments[1]))
        case ("devices", 3) where segments[2] == "modules": return try modules(of: segments[1])
        case ("devices", 4) where segments[2] == "modules": return try identity(try name(segments[1], segments[3]))
        case ("devices", 4) where segments[2] == "keys": return try rotate(try name(segments[1]), slot: segments[3])
        case ("devices", 6) where segments[2] == "modules" && segments[4] == "keys":
            return try rotate(try name(segments[1], segments[3]), slot: segments[5])
        case ("devices", 4) where segments[2] == "messages" && segments[3] == "events":
            return try receiveTelemetry(from: try name(segments[1]))
        case ("devices", 6) where segments[2] == "modules" && segments[4] == "messages" && segments[5] == "events":
            return try receiveTelemetry(from: try name(segments[1], segments[3]))
        case ("devices", 4...6) where segments[2] == "messages" && segments[3] == "deviceBound": return try deviceBound(segments)
        case ("devices", 3) where segments[2] == "files": return try beginUpload(of: segments[1])
        case ("devices", 4) where segments[2] == "files" && segments[3] == "notifications": return try endUpload(of: segments[1])
        case ("devices", 3) where segments[2] == "commands": return try purgeMessages(of: try name(segments[1]).deviceID)
        case ("messages", 3...5) where segments[1] == "serviceBound" && segments[2] == "feedback":
            return try feedback(Array(segments.dropFirst(3)))
        case ("messages", 3...5) where segments[1] == "serviceBound" && segments[2] == "filenotifications":
            return try fileNotices(Array(segments.dropFirst(3)))
        case ("telemetry", 1...): return try telemetry(Array(segments.dropFirst()))
        case ("audit", 1): return try readAudit()
        case ("statistics", 2): return try statistics(segments[1])
        case ("twins", 2): return try twin(try name(segments[1]))
        case ("twins", 4) where segments[2] == "modules": return try twin(try name(segments[1], segments[3]))
        case ("twins", 4) where segments[2] == "streams": return try openStream(to: try name(segments[1]), segments[3])
        case ("twins", 6) where segments[2] == "modules" && segments[4] == "streams":
            return try openStream(to: try name(segments[1], segments[3]), segments[5])
        case ("twins", 3) where segments[2] == "methods": return try invokeMethod(of: try name(segments[1]))
        case ("twins", 5) where segments[2] == "modules" && segments[4] == "methods":
            return try invokeMethod(of: try name(segments[1], segments[3]))
        case ("streams", 1): return try listStreams()
        case ("streams", 2): return try closeStream(segments[1])
        case ("jobs", 3) where segments[1] == "v2": return try scheduledJob(segments[2])
        case ("jobs", 4) where segments[1] == "v2" && segments[3] == "cancel": return try cancelScheduledJob(segments[2])
        case ("jobs", 1): return try transfers()
        case ("jobs", 2): return try transfer(segments[1])
        case ("digitaltwins", 2): return try digitalTwin(segments[1])
        case ("digitaltwins", 4) where segments[2] == "commands":
            return try digitalTwinCommand(segments[1], component: nil, segments[3])
        case ("digitaltwins", 6) where segments[2] == "components" && segments[4] == "commands":
            return try digitalTwinCommand(segments[1], component: segments[3], segments[5])
        case ("configurations", 1): return try configurations()
        case ("configurations", 2): return try configuration(segments[1])
        case ("devices", 3) where segments[2] == "applyConfigurationContent": return try applyContent(to: segments[1])
        case ("certificates", 1): return try authorities()
        case ("certificates", 2): return try authority(segments[1])
        case ("certificates", 3): return try authority(segments[1], segments[2])
        case ("quotas", 1): return try quotas()
        case ("quotas", 2): return try quota(of: try name(segments[1]))
        case ("policies", 1): return try policies()
        case ("policies", 2): return try policy(segments[1])
        case ("policies", 3) where segments[2] == "rotate": return try rotatePolicy(segments[1])
        default: throw .answer(HTTPAnswer(status: 404, errorName: "NotFound", message: "no such resource"))
        }
    }

    /// What waits for a device: services add to it, and the device takes from it.
    private func deviceBound(_ segments: [String]) throws(Problem) -> HTTPAnswer? {
        let device = try name(segments[1]).deviceID
        switch segments.count {
        case 4: return head.method == "POST" ? try sendMessage(to: device) : try fetchMessage(of: device)
        case 5: return try settleMessage(of: device, segments[4], abandons: false)
        case 6 where segments[5] == "abandon": return try settleMessage(of: device, segments[4], abandons: true)
        default: throw .answer(HTTPAnswer(status: 404, errorName: "NotFound", message: "no such resource"))
        }
    }

    // What the routes share

    func methods(_ allowed: String...) throws(Problem) {
        guard !allowed.contains(head.method) else { return }
        var answer = HTTPAnswer(status: 405, errorName: "MethodNotAllowed", message: "use \(allowed.joined(separator: " or "))")
        answer.headers.add("Allow", allowed.joined(separator: ", "))
        throw .answer(answer)
    }

    /// Checks token and api-version, and that there is not too much of this.
    @discardableResult
    func authorize(_ rights: Rights, _ operation: ThrottledOperation? = nil) throws(Problem) -> ServicePrincipal {
        let path = (head.pathSegments ?? []).joined(separator: "/")
        let principal: ServicePrincipal
        do throws(Refusal) {
            principal = try registry.authenticateService(
                authorization: head.headers["Authorization"], needing: rights, path: path, hosts: core.names, switches: core.switches,
                now: Clock.unixSeconds)
        } catch {
            core.refused("request", peer: connection.peer, "https", error, subject: "/\(path)")
            throw .registry(error.error)
        }
        core.admitted("policy:\(principal.policy)", on: connection, method: "policy")
        try checkVersion()
        if let operation { try throttle(operation) }
        return principal
    }

    /// Counts an operation of somebody who may; an error when there is too much of it.
    func throttle(_ operation: ThrottledOperation, weight: Int = 1) throws(Problem) {
        if let wait = core.throttles.refusal(of: operation, weight: weight) { throw .registry(.throttled(milliseconds: wait)) }
    }

    func checkVersion() throws(Problem) {
        guard let version = head.queryValue("api-version"), isDate(version) else {
            throw .answer(HTTPAnswer(status: 400, errorName: "InvalidProtocolVersion", message: "api-version is missing or is no date"))
        }
    }

    /// `YYYY-MM-DD`, or more behind it: `2020-05-31-preview`.
    private func isDate(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard bytes.count >= 10, bytes.count <= 40 else { return false }
        return bytes[..<10].enumerated().allSatisfy { index, byte in
            index == 4 || index == 7 ? byte == UInt8(ascii: "-") : (0x30...0x39).contains(byte)
        } && (bytes.count == 10 || bytes[10] == UInt8(ascii: "-"))
    }

    func name(_ device: String, _ module: String? = nil) throws(Problem) -> ClientIdentity {
        guard let name = ClientIdentity(deviceID: device, moduleID: module) else {
            throw .registry(.argumentInvalid("an identifier has 1 to 128 letters, digits and - . % _ * ? ! ( ) , : = @ $ ' + # ;"))
        }
        return name
    }

    func json() throws(Problem) -> JSONValue {
        do throws(JSONError) {
            return try JSONValue.parse(body.span.bytes, depth: 40)
        } catch {
            throw .answer(HTTPAnswer(status: 400, errorName: "IotHubFormatError", message: error.description))
        }
    }

    /// Runs `body` with the registry's errors turned into answers.
    func reading<Result>(_ body: () throws(RegistryError) -> Result) throws(Problem) -> Result {
        do throws(RegistryError) { return try body() } catch { throw .registry(error) }
    }

    /// Hands a command to the writer; the answer follows its commit. Always nil, so that a route can return it.
    func commit(_ command: RegistryCommand, _ answer: @escaping @Sendable (RegistryOutcome) -> HTTPAnswer) -> HTTPAnswer? {
        connection.commit(command, in: core, on: reactor, answer)
        return nil
    }
}

extension HTTPConnection {
    /// Hands a command to the writer and answers the request after its commit.
    func commit(
        _ command: RegistryCommand, in core: HubCore, on reactor: Reactor, _ answer: @escaping @Sendable (RegistryOutcome) -> HTTPAnswer
    ) {
        let token = self.token, serial = self.serial, mailbox = reactor.mailbox
        let actor = self.actor, from = peer?.description ?? ""
        core.registry.submit(command, to: core.writer) { result in
            core.changed(command.deeds(result), by: actor, from: from)
            let made: HTTPAnswer =
                switch result {
                case .success(let outcome): answer(outcome)
                case .failure(let error): HTTPAnswer(error)
                }
            core.lookForChanges()
            mailbox.send { reactor in (reactor.source(token) as? HTTPConnection)?.answer(made, to: serial, on: reactor) }
        }
    }
}
