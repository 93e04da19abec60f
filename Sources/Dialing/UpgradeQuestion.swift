import Bytes
import Connections
import LinuxIO
import Wire

/// The connection while the request for an upgrade is out and the answer not yet complete. A subclass judges the 101 and says what then
/// becomes of the channel.
class UpgradeQuestion: Connection {
    private let place: String
    private let request: HTTPRequestHead
    private var failed: ((DialError, Reactor) -> Void)?
    private var failure: DialError?

    /// - Parameters:
    ///   - place: for people to read.
    ///   - failed: called once when nothing comes of it.
    init(_ channel: consuming Channel, asking request: HTTPRequestHead, of place: String, failed: @escaping (DialError, Reactor) -> Void) {
        self.request = request
        self.place = place
        self.failed = failed
        super.init(channel)
    }

    /// Takes the answer, or throws what `WebSocketHandshake.check` throws; asks the channel for what comes next.
    func accept(_ answer: HTTPResponseHead, _ channel: inout Channel) throws {}

    override final func opened(_ channel: inout Channel, on reactor: Reactor) throws { request.encode(into: &channel.output) }

    override final func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        do {
            guard case .complete(let head, let consumed) = try HTTPResponseHead.parse(bytes) else { return 0 }
            try accept(head, &channel)
            return consumed
        } catch WebSocketHandshake.Failure.refused(let status) {
            throw note(.refused(place: place, status: status))
        } catch let error as HTTPError {
            throw note(.malformed(place: place, reason: "does not answer as a hub: \(error)"))
        } catch {
            throw note(.malformed(place: place, reason: "answered the upgrade wrongly"))
        }
    }

    private func note(_ error: DialError) -> DialError {
        failure = error
        return error
    }

    override final func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        throw note(.cut(place: place, reason: "hung up without an answer", answerBegun: false))
    }

    override final func expired(on reactor: Reactor) {
        failure = .timedOut(place: place)
        abort(on: reactor)
    }

    override final func closed(_ reason: CloseReason, on reactor: Reactor) {
        let text = if case .failed(let error) = reason { "\(error)" } else { "the connection ended" }
        failed.take()?(failure ?? .cut(place: place, reason: text, answerBegun: false), reactor)
    }

    override final func drain(on reactor: Reactor) {}
    override final var isBackground: Bool { true }
}

/// The way to an upgraded connection: reaches the hub, then asks. Either can be given up.
final class UpgradeAttempt {
    private var dial: HubDial?
    private var question: UpgradeQuestion?

    /// Starts at once.
    /// - Parameters:
    ///   - connectMilliseconds: for the TCP connection alone.
    ///   - milliseconds: for reaching the hub; as much again for its answer.
    ///   - ask: makes the question, which tells how it ended.
    ///   - failed: called once when the hub cannot be reached.
    init(
        to place: HostPort, through access: HubAccess, connectMilliseconds: Int, withinMilliseconds milliseconds: Int, on reactor: Reactor,
        ask: @escaping (consuming Channel) -> UpgradeQuestion, failed: @escaping (DialError, Reactor) -> Void
    ) {
        dial = HubDial(
            to: place, through: access, connectMilliseconds: connectMilliseconds, withinMilliseconds: milliseconds, on: reactor
        ) { [self] result, reactor in
            dial = nil
            switch consume result {
            case .failure(let error): failed(error, reactor)
            case .success(let channel):
                let question = ask(channel)
                self.question = question
                question.start(on: reactor)
                reactor.setDeadline(of: question, inMilliseconds: milliseconds)
            }
        }
    }

    /// Gives up; `failed` may be called all the same.
    func cancel(on reactor: Reactor) {
        dial.take()?.cancel(on: reactor)
        question.take()?.abort(on: reactor)
    }
}
