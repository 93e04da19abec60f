import LinuxIO
import Registry
import Serving
import Telemetry
import Wire

/// What a device does over HTTPS instead of MQTT: telemetry, and fetching its messages (mqtt-device 16).
extension ServiceRequest {
    /// Lets the device itself in, by its token or its certificate, or a policy with DeviceConnect.
    @discardableResult
    func authorize(device name: ClientIdentity) throws(Problem) -> DevicePrincipal {
        let principal: DevicePrincipal
        do throws(Refusal) {
            principal = try core.authenticate(
                name, token: head.headers["Authorization"], certificates: connection.certificates, overHTTPS: true)
        } catch {
            core.refused("request", who: name.auditName, peer: connection.peer, "https", error)
            throw .registry(error.error)
        }
        core.admitted(name.auditName, on: connection, method: principal.method.auditName)
        try checkVersion()
        return principal
    }

    /// `POST /devices/{id}/messages/events`, and a module's: one message, or a batch of them in JSON.
    func receiveTelemetry(from name: ClientIdentity) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        let principal = try authorize(device: name)
        let messages = try reading { () throws(RegistryError) in
            try UploadedMessage.parse(head.headers, body: body)
        }
        try throttle(.telemetry, weight: messages.count)
        var batch = TelemetryBundle(of: name.deviceID)
        for message in messages {
            guard let template = TelemetryTemplate(TelemetryIntake.envelope(message.properties, from: principal)),
                batch.append(template, body: message.body.span.bytes)
            else { throw .registry(.messageTooLarge("a message is too large")) }
        }
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
        let submission = core.telemetry.submit(batch) { result in
            let answer = if case .success = result { HTTPAnswer(status: 204) } else { Self.unavailable }
            mailbox.send { reactor in (reactor.source(token) as? HTTPConnection)?.answer(answer, to: serial, on: reactor) }
        }
        return switch submission {
        case .accepted: nil
        case .full: HTTPAnswer(.throttled(milliseconds: 1000))  // too much waits for the disk
        case .refused: Self.unavailable
        }
    }

    private static var unavailable: HTTPAnswer {
        HTTPAnswer(status: 503, errorName: "ServiceUnavailable", message: "the message could not be stored")
    }

    /// `GET /devices/{id}/messages/deviceBound`: the first message that nobody holds.
    func fetchMessage(of device: String) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "POST")
        try authorize(device: try name(device))
        try throttle(.messageFetches)
        var seconds = core.limits.messageLockSeconds
        if let text = head.headers["IotHub-MessageLockTimeout"] {
            guard let number = Int(text), MessageLocks.range.contains(number) else {
                throw .registry(.argumentInvalid("IotHub-MessageLockTimeout is a number of seconds from 5 to 300"))
            }
            seconds = number
        }
        let queue = try reading { () throws(RegistryError) in try registry.messages(of: device) }
        guard let (queued, token) = core.locks.take(from: queue, of: device, for: .fetch, limit: 1, seconds: seconds).first else {
            return HTTPAnswer(status: 204)
        }
        var answer = HTTPAnswer(status: 200)
        answer.headers = MessageFields.headers(of: queued, token: token)
        answer.body = queued.message.body
        return answer
    }

    /// `DELETE …/deviceBound/{lockToken}`, with `?reject` or without, and `POST …/{lockToken}/abandon`.
    func settleMessage(of device: String, _ token: String, abandons: Bool) throws(Problem) -> HTTPAnswer? {
        try methods(abandons ? "POST" : "DELETE")
        try authorize(device: try name(device))
        guard let message = core.locks.message(of: device, lockedBy: token) else { throw .registry(.lockLost) }
        let settlement: MessageSettlement = abandons ? .abandon : head.queryValue("reject") == nil ? .complete : .reject
        let connection = self.connection.token, serial = self.connection.serial, mailbox = reactor.mailbox
        core.settle(message, of: device, settlement) { result in
            let answer: HTTPAnswer =
                switch result {
                case .success(.settled(true)): HTTPAnswer(status: 204)
                case .success: HTTPAnswer(.lockLost)
                case .failure(let error): HTTPAnswer(error)
                }
            mailbox.send { reactor in (reactor.source(connection) as? HTTPConnection)?.answer(answer, to: serial, on: reactor) }
        }
        return nil
    }
}
