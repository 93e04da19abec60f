import Console
import Dialing
import LinuxIO
import Wire

/// What the conversation with a provisioning service needs to know.
struct ProvisioningSettings: Sendable {
    var name: RegistrationName
    /// The device's own key, of its enrollment or derived from its group's; nil: the certificate of `access` proves who we are.
    var key: SymmetricKey?
    var access: HubAccess
    /// Of the leaf that is shown now, SHA-256 in hex; nil for a device with a key.
    var thumbprint: @Sendable () -> String?
    /// Where the assignment is kept.
    var path: String
}

/// One registration over HTTPS: asks, waits while the service is at work, and answers once.
///
///     PUT register ─► 202, Retry-After ─► GET operation ─► 202 … ─► 200
final class Registration {
    enum Outcome {
        case assigned(Assignment)
        /// Somebody has to change something first.
        case refused(String)
        /// Nobody answered as it should; the service may want to be left alone for some seconds.
        case unavailable(String, retryAfterSeconds: Int?)
    }

    private static let version = "2021-06-01"
    private static let bodyLimit = 64 << 10
    private static let answerMilliseconds = 30_000, wholeMilliseconds = 600_000
    /// Seconds between two questions: what the service says within these bounds, else the last.
    private static let pauses = 1...60, usualPause = 3
    private static let tokenSeconds: Int64 = 900

    private let settings: ProvisioningSettings
    private let exchange: HubExchange
    private var answer: ((Outcome, Reactor) -> Void)?
    private var ticket: HubExchangeTicket?
    private var pause: Timer?, limit: Timer?
    private var clock = HubClock()
    private var operation: String?

    /// Begins at once.
    init(_ settings: ProvisioningSettings, on reactor: Reactor, _ answer: @escaping (Outcome, Reactor) -> Void) {
        self.settings = settings
        self.answer = answer
        exchange = HubExchange(with: settings.name.endpoint, through: settings.access, bodyLimit: Self.bodyLimit)
        pause = Timer(on: reactor) { [weak self] _, reactor in self?.ask(on: reactor) }
        limit = Timer(on: reactor) { [weak self] _, reactor in
            self?.end(.unavailable("the provisioning service did not come to a decision", retryAfterSeconds: nil), on: reactor)
        }
        limit?.set(inMilliseconds: Self.wholeMilliseconds, on: reactor)
        ask(on: reactor)
    }

    /// Gives up without an outcome.
    func cancel(on reactor: Reactor) {
        answer = nil
        tidy(on: reactor)
    }

    private func tidy(on reactor: Reactor) {
        for timer in [pause.take(), limit.take()] { if let timer { reactor.remove(timer) } }
        ticket.take()?.cancel(on: reactor)
        exchange.closeIdle(on: reactor)  // the next registration may come with another certificate
    }

    private func end(_ outcome: Outcome, on reactor: Reactor) {
        let answer = answer.take()
        tidy(on: reactor)
        answer?(outcome, reactor)
    }

    private var request: HubRequest {
        let name = settings.name
        func encoded(_ text: String) -> String { PercentCoding.encode(text, leaving: .unreserved) }
        let path = "/\(encoded(name.scope))/registrations/\(encoded(name.id))", query = "?api-version=\(Self.version)"
        var headers = HTTPHeaders([("Accept", "application/json"), ("User-Agent", "iotstream/\(Product.version)")])
        if let key = settings.key {
            let expiry = clock.now(ownSeconds: Clock.unixSeconds) &+ Self.tokenSeconds
            headers["Authorization"] = SASToken.make(resource: name.resource, key: key, expiry: expiry, policy: "registration")
        }
        if let operation { return HubRequest("GET", "\(path)/operations/\(encoded(operation))\(query)", headers: headers) }
        headers["Content-Type"] = "application/json"
        let body = JSONValue.object(of: ["registrationId": .string(name.id)]).bytes()
        return HubRequest("PUT", "\(path)/register\(query)", headers: headers, body: body)
    }

    private func ask(on reactor: Reactor) {
        ticket = exchange.send(request, answerWithinMilliseconds: Self.answerMilliseconds, on: reactor) { [weak self] result, reactor in
            guard let self else { return }
            ticket = nil
            switch result {
            case .success(let answer): heard(answer, on: reactor)
            case .failure(let error): end(.unavailable(error.description, retryAfterSeconds: nil), on: reactor)
            }
        }
    }

    private func heard(_ answer: HubAnswer, on reactor: Reactor) {
        let seconds = RegistrationAnswer.retryAfter(answer.headers)
        switch RegistrationAnswer(status: answer.status, body: answer.body) {
        case .working(let operation):
            self.operation = operation
            let wait = min(max(seconds ?? Self.usualPause, Self.pauses.lowerBound), Self.pauses.upperBound)
            // Devices that were switched on together do not ask together.
            pause?.set(inMilliseconds: wait * 1000 + .random(in: 0..<500), on: reactor)
        case .assigned(let hub, let deviceID):
            end(.assigned(Assignment(settings.name, hub: hub, deviceID: deviceID, thumbprint: settings.thumbprint())), on: reactor)
        case .refused where answer.status == 404 && operation != nil:
            end(.unavailable("the provisioning service has forgotten the operation", retryAfterSeconds: seconds), on: reactor)
        case .refused(let reason):
            // A token that ends in the past, or is not to be believed yet, may only follow the wrong clock.
            let before = clock
            if answer.status == 401, settings.key != nil, let hubSeconds = answer.hubSeconds,
                let difference = clock.note(hubSeconds: hubSeconds, ownSeconds: Clock.unixSeconds), clock != before
            {
                Log.warning(
                    "clock-wrong",
                    [
                        "service": settings.name.endpoint.description, "off-by-seconds": "\(-difference)",
                        "remedy": "tokens follow the service's clock: set this machine's clock",
                    ])
                return ask(on: reactor)
            }
            end(.refused(reason), on: reactor)
        case .busy(let reason): end(.unavailable(reason, retryAfterSeconds: seconds), on: reactor)
        }
    }
}
