import Console
import Dialing
import Glibc
import LinuxIO
import Relay
import Synchronization
import Wire

/// A value on its way from one thread to another that waits for it.
final class Handoff<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let bell = Semaphore()

    /// The first one counts.
    func give(_ new: Value) {
        let isFirst = value.withLock { value in
            if value != nil { return false }
            value = new
            return true
        }
        if isFirst { bell.signal() }
    }

    func take() -> Value {
        while true {
            bell.wait()
            if let value = value.withLock({ $0 }) { return value }
        }
    }
}

/// The part of a measurement that lives on the reactor: requests to the hub, and streams that are open.
final class BenchDesk {
    /// When a request was answered, and how its connection came to be.
    struct Asked: Sendable {
        let began: UInt64
        let ended: UInt64
        let marks: HubDial.Marks?
        let status: Int
    }

    /// A stream that is open.
    struct Opened: Sendable {
        let talk: BenchTalk
        let marks: OpeningMarks
        let mode: String
    }

    private let settings: ServiceSettings
    private let service: HubService
    private var openings: [ObjectIdentifier: StreamOpening] = [:]
    private var bridges: [ObjectIdentifier: LocalBridge] = [:]

    init(_ settings: ServiceSettings) throws(Failure) {
        self.settings = settings
        service = try HubService(settings, role: "bench")
    }

    static func of(_ reactor: Reactor) -> BenchDesk? { reactor.resident as? BenchDesk }

    /// Whether every stream has come to its end.
    var isIdle: Bool { openings.isEmpty && bridges.isEmpty }

    /// Keeps connections ready for streams, as forward would.
    func start(on reactor: Reactor) { service.start(warmFor: settings.warm, on: reactor) }

    /// Lets go of what is kept ready.
    func stop(on reactor: Reactor) { service.stop(on: reactor) }

    /// Closes the connections that are kept, so that the next request makes one.
    func forget(on reactor: Reactor) { service.exchange.closeIdle(on: reactor) }

    /// A small request that the hub answers by itself, with the service's token.
    func ask(on reactor: Reactor, _ answer: @escaping (Result<Asked, DialError>) -> Void) {
        let began = Clock.nanoseconds
        var ticket: HubExchangeTicket?
        ticket = service.exchange.send(service.smallRequest(), answerWithinMilliseconds: 15_000, on: reactor) { [service] result, _ in
            answer(
                result.map { response in
                    _ = service.note(response)
                    return Asked(began: began, ended: Clock.nanoseconds, marks: ticket?.marks, status: response.status)
                })
            ticket = nil
        }
    }

    func open(_ target: StreamTarget, on reactor: Reactor, _ answer: @escaping (Result<Opened, StreamFailure>) -> Void) {
        var opening: StreamOpening?
        let made = StreamOpening(target, at: service, on: reactor) { [weak self] result, reactor in
            guard let self, let known = opening else { return }
            opening = nil
            openings[ObjectIdentifier(known)] = nil
            switch consume result {
            case .failure(let failure): answer(.failure(failure))
            case .success(let stream): answer(join(stream, to: target, known.marks, on: reactor))
            }
        }
        opening = made
        openings[ObjectIdentifier(made)] = made
    }

    private func join(
        _ stream: consuming OpenedStream, to target: StreamTarget, _ marks: OpeningMarks, on reactor: Reactor
    ) -> Result<Opened, StreamFailure> {
        var pair: [CInt] = [-1, -1]
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            return .failure(.unreachable(.system("socketpair: \(SystemError("socketpair").reason)")))
        }
        let near = OwnedDescriptor(adopting: pair[0]), talk = BenchTalk(OwnedDescriptor(adopting: pair[1])), mode = stream.mode
        guard fcntl(near.raw, F_SETFL, O_NONBLOCK) == 0 else {
            return .failure(.unreachable(.system("fcntl: \(SystemError("fcntl").reason)")))
        }
        let bridge = LocalBridge(local: near, on: reactor) { [weak self, service] bridge, report, _ in
            if report.end != .orderly { talk.note(service.complaint(about: report, of: target) ?? report.end.description) }
            self?.bridges[ObjectIdentifier(bridge)] = nil
        }
        bridges[ObjectIdentifier(bridge)] = bridge
        stream.join(bridge, on: reactor)
        return .success(Opened(talk: talk, marks: marks, mode: mode))
    }
}
