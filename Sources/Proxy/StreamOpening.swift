import Connections
import Dialing
import LinuxIO
import Wire

/// An open service leg.
struct OpenedStream: ~Copyable {
    private let channel: Channel
    /// The device has taken our offer.
    let isHalfClosing: Bool

    init(_ channel: consuming Channel, isHalfClosing: Bool) {
        self.channel = channel
        self.isHalfClosing = isHalfClosing
    }

    /// Gives on the WebSocket, after its 101.
    consuming func take() -> Channel { channel }
}

/// Opens one stream: asks the hub, which asks the device, then opens the service's leg. Answers once, unless cancelled.
final class StreamOpening {
    typealias Answer = (consuming Result<OpenedStream, StreamFailure>, Reactor) -> Void

    private let service: HubService
    private let target: StreamTarget
    private var answer: Answer?
    private var ticket: HubExchangeTicket?
    private var upgrade: WebSocketUpgrade?
    private var hasCorrectedClock = false
    /// The device has accepted: whoever gives up now had better let the leg come, and close it.
    private(set) var isAccepted = false

    /// Starts at once; the answer comes later, from the reactor's loop.
    init(_ target: StreamTarget, at service: HubService, on reactor: Reactor, _ answer: @escaping Answer) {
        self.service = service
        self.target = target
        self.answer = answer
        ask(on: reactor)
    }

    /// Gives up without an answer; the hub notices, and tells the device.
    func cancel(on reactor: Reactor) {
        answer = nil
        ticket.take()?.cancel(on: reactor)
        upgrade.take()?.cancel(on: reactor)
    }

    private func ask(on reactor: Reactor) {
        defer { service.expectLeg(on: reactor) }
        ticket = service.exchange.send(
            service.request(for: target), answerWithinMilliseconds: service.patienceMilliseconds, on: reactor
        ) { [self] result, reactor in
            ticket = nil
            switch result {
            case .failure(let error): finish(.failure(.unreachable(error)), on: reactor)
            case .success(let response): answered(response, on: reactor)
            }
        }
    }

    private func answered(_ response: HubAnswer, on reactor: Reactor) {
        let wasClockWrong = service.note(response)
        if response.status == 401, wasClockWrong, !hasCorrectedClock {
            hasCorrectedClock = true
            return ask(on: reactor)
        }
        guard response.status == 200 || response.status == 202 else { return finish(.failure(StreamFailure(response)), on: reactor) }
        let headers = response.headers
        guard let word = headers.single("iothub-streaming-is-accepted") else {
            return finish(.failure(.malformed("no verdict")), on: reactor)
        }
        guard ASCII.equalIgnoringCase(word, "True") else {
            return finish(.failure(.rejected(headers["iotstream-reason"])), on: reactor)
        }
        guard let url = headers.single("iothub-streaming-url").flatMap({ StreamURL(parsing: $0) }),
            let token = headers.single("iothub-streaming-auth-token")
        else { return finish(.failure(.malformed("no address for the stream")), on: reactor) }
        isAccepted = true
        let isHalfClosing = headers.hasToken("half-close", in: "iotstream-chosen")
        upgrade = WebSocketUpgrade(to: url, through: service.settings.access, bearer: token, on: reactor) { [self] result, reactor in
            upgrade = nil
            switch consume result {
            case .failure(let error): finish(.failure(.unreachable(error)), on: reactor)
            case .success(let upgraded):
                finish(.success(OpenedStream(upgraded.take(), isHalfClosing: isHalfClosing)), on: reactor)
            }
        }
    }

    private func finish(_ result: consuming Result<OpenedStream, StreamFailure>, on reactor: Reactor) { answer.take()?(result, reactor) }
}
