import Connections
import Console
import Dialing
import LinuxIO
import Relay
import TLS
import Trust
import Wire

/// Opens one stream: asks the hub, which asks the device, then opens the service's leg and, where the device has chosen so, an end-to-end
/// session on it. Answers once, unless cancelled.
///
///     asked ─► blind: the request's connection leaves TLS, handshake ────► open
///       │        └► came to nothing: asked once more, and then a leg for it
///       ├────► blind: leg, leave TLS, handshake ─────────────────────────► open
///       │        └► failed on the way: asked once more, for a WebSocket
///       ├────► e2e: WebSocket, handshake inside it ──────────────────────► open
///       └────► WebSocket, unless the device has to show who it is ───────► open
final class StreamOpening {
    typealias Answer = (consuming Result<OpenedStream, StreamFailure>, Reactor) -> Void

    /// From the bare leg to the end of the handshake, where another way can still be tried; and where none can.
    private static let tryMilliseconds = 5000, lastMilliseconds = 10_000

    private let service: HubService
    private let target: StreamTarget
    private var answer: Answer?
    private var offer: [StreamWay]
    private var ticket: HubExchangeTicket?
    private var session: TLSSession?  // begun while the device is asked
    private var upgrade: WebSocketUpgrade?
    private var blind: BlindUpgrade?
    private var handshake: SealedHandshake?
    private var carrier: WebSocketCarrier?
    private var hasCorrectedClock = false, hasFallenBack = false
    /// The device has accepted: whoever gives up now had better let the leg come, and close it.
    private(set) var isAccepted = false
    /// What took how long.
    private(set) var marks = OpeningMarks()

    /// Starts at once; the answer comes later, from the reactor's loop.
    init(_ target: StreamTarget, at service: HubService, on reactor: Reactor, _ answer: @escaping Answer) {
        self.service = service
        self.target = target
        self.answer = answer
        let mode = service.settings.mode
        offer = mode.offer(isPathBad: mode == .auto && service.sealing.isPathBad)
        ask(on: reactor)
    }

    /// Gives up without an answer; the hub notices, and tells the device.
    func cancel(on reactor: Reactor) {
        answer = nil
        ticket.take()?.cancel(on: reactor)
        session = nil
        upgrade.take()?.cancel(on: reactor)
        blind.take()?.cancel(on: reactor)
        handshake.take()?.cancel(on: reactor)
        carrier.take()?.abandon(on: reactor)
    }

    private func ask(on reactor: Reactor) {
        let becomesLeg = offer.contains(.blind) && service.joinsAtOnce(target.client)
        if session == nil, offer.contains(where: \.isEndToEnd) { session = service.sealing.takePrepared(for: target) }
        defer { foresee(on: reactor) }
        ticket = service.exchange.send(
            service.request(for: target, offering: offer, becomesLeg: becomesLeg),
            answerWithinMilliseconds: service.patienceMilliseconds, on: reactor
        ) { [self] result, reactor in
            let ticket = ticket.take()
            switch result {
            case .failure(let error) where becomesLeg && ticket?.isAsked == true && error.isBehindRequest:
                Log.info("join-failed", ["target": target.description, "reason": error.description])
                service.noteJoinFailed()
                session = nil
                ask(on: reactor)
            case .failure(let error): finish(.failure(.unreachable(error)), on: reactor)
            case .success(let response): answered(response, to: ticket, on: reactor)
            }
        }
    }

    /// Begins the session as soon as the request is out, unless that has been done; what it says first follows the request.
    private func foresee(on reactor: Reactor) {
        guard offer.contains(where: \.isEndToEnd) else { return }
        if session != nil, let ticket, let hello = try? begin() { return ticket.leave(saying: hello, on: reactor) }
        Leisure(on: reactor) { [weak self] reactor in
            guard let self, let ticket, let hello = try? begin() else { return }
            ticket.leave(saying: hello, on: reactor)
        }
    }

    private func answered(_ response: HubAnswer, to asked: HubExchangeTicket?, on reactor: Reactor) {
        let wasClockWrong = service.note(response)
        if let asked, let socket = asked.takeSocket() {
            isAccepted = true
            marks.upgraded = Clock.nanoseconds
            marks.answered = asked.agreedAt ?? marks.upgraded
            return seal(socket.take(), .blind, hasSpoken: asked.hasLeft, withinMilliseconds: Self.tryMilliseconds, on: reactor)
        }
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
        marks.answered = Clock.nanoseconds
        let chosen = StreamWay.list(headers["iotstream-chosen"]).first { offer.contains($0) }
        if offer.contains(.blind) { service.noteChoice(of: target.client, isBlind: chosen == .blind) }
        if chosen == .blind { return openBlind(url, token, behind: asked, on: reactor) }
        do throws(StreamFailure) { try check(chosen) } catch { return finish(.failure(error), on: reactor) }
        upgrade = WebSocketUpgrade(to: url, through: service.settings.access, bearer: token, behind: asked, on: reactor) {
            [self] result, reactor in
            upgrade = nil
            marks.upgraded = Clock.nanoseconds
            switch consume result {
            case .failure(let error): finish(.failure(.unreachable(error)), on: reactor)
            case .success(let upgraded) where chosen == .endToEnd: seal(inside: upgraded.take(), on: reactor)
            case .success(let upgraded):
                finish(.success(OpenedStream(upgraded.take(), chosen)), on: reactor)
                service.expectRequest(for: target, on: reactor)
            }
        }
    }

    /// Whether another way than the blind one will do.
    private func check(_ chosen: StreamWay?) throws(StreamFailure) {
        if service.settings.mode == .blind { throw .notBlind("the hub or the device's agent cannot do it") }
        guard chosen != .endToEnd else { return }
        do throws(TrustError) { try service.sealing.allowPlain(to: target.client) } catch { throw .untrusted(error) }
    }

    // Blind

    private func openBlind(_ url: StreamURL, _ token: String, behind asked: HubExchangeTicket?, on reactor: Reactor) {
        let hello: [UInt8]
        do throws(TLSError) { hello = try begin() } catch {
            return finish(.failure(.unreachable(.system(error.description))), on: reactor)
        }
        blind = BlindUpgrade(to: url, through: service.settings.access, bearer: token, saying: hello, behind: asked, on: reactor) {
            [self] result, reactor in
            blind = nil
            marks.upgraded = Clock.nanoseconds
            switch consume result {
            case .success(let socket):
                seal(socket.take(), .blind, hasSpoken: true, withinMilliseconds: Self.tryMilliseconds, on: reactor)
            case .failure(let error):
                if error.isBehindRequest {
                    fallBack(because: error.description, on: reactor)
                } else {
                    finish(.failure(.unreachable(error)), on: reactor)
                }
            }
        }
    }

    /// Something on the way breaks the switch: the same session goes inside a WebSocket. Nothing has been read from the local connection.
    private func fallBack(because reason: String, on reactor: Reactor) {
        guard service.settings.mode == .auto else { return finish(.failure(.notBlind(reason)), on: reactor) }
        Log.info("blind-failed", ["target": target.description, "reason": reason])
        hasFallenBack = true
        session = nil
        isAccepted = false
        offer = service.settings.mode.offer(isPathBad: true)
        ask(on: reactor)
    }

    // The session

    /// Begins the session unless it has begun; what it says first.
    private func begin() throws(TLSError) -> [UInt8] {
        if session == nil { session = try service.sealing.begin(to: target) }
        return session?.firstFlight ?? []
    }

    private func seal(inside channel: consuming Channel, on reactor: Reactor) {
        do throws(SystemError) {
            let carrier = try WebSocketCarrier(channel, on: reactor)
            self.carrier = carrier
            guard let socket = carrier.takeSocket() else { return }
            seal(socket, .endToEnd, hasSpoken: false, withinMilliseconds: Self.lastMilliseconds, on: reactor)
        } catch {
            finish(.failure(.unreachable(.system(error.description))), on: reactor)
        }
    }

    /// - Parameter hasSpoken: whether the session's first flight has gone out on the socket.
    private func seal(
        _ socket: consuming OwnedDescriptor, _ way: StreamWay, hasSpoken: Bool, withinMilliseconds milliseconds: Int, on reactor: Reactor
    ) {
        do throws(TLSError) {
            _ = try begin()
            guard let begun = session.take() else { return }
            handshake = try service.sealing.proceed(
                with: begun, over: socket, hasSpoken: hasSpoken, to: target, withinMilliseconds: milliseconds, on: reactor
            ) { [self] result, reactor in
                handshake = nil
                switch consume result {
                case .success(let channel): sealed(channel, way, on: reactor)
                case .failure(let failure): unsealed(failure, way, on: reactor)
                }
            }
        } catch {
            finish(.failure(.unreachable(.system(error.description))), on: reactor)
        }
    }

    private func sealed(_ channel: consuming Channel, _ way: StreamWay, on reactor: Reactor) {
        if way == .blind { service.sealing.notePathGood() } else if hasFallenBack { service.sealing.notePathBad() }
        finish(.success(OpenedStream(channel, way, carrier: carrier.take())), on: reactor)
        service.expectRequest(for: target, on: reactor)
    }

    private func unsealed(_ failure: SealingFailure, _ way: StreamWay, on reactor: Reactor) {
        switch failure {
        case .untrusted(let error): finish(.failure(.untrusted(error)), on: reactor)
        case .refused(let words): finish(.failure(.sealRefused(words)), on: reactor)
        case .broken(let reason) where way == .blind: fallBack(because: reason, on: reactor)
        case .broken(let reason): finish(.failure(.unsealed(reason)), on: reactor)
        }
    }

    private func finish(_ result: consuming Result<OpenedStream, StreamFailure>, on reactor: Reactor) {
        carrier.take()?.abandon(on: reactor)
        session = nil
        marks.opened = Clock.nanoseconds
        answer.take()?(result, reactor)
    }
}
