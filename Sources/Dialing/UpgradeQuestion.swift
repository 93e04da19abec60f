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
    private var hasAnswerBegun = false
    /// For a connection that may have been dead before it was used: asks once more on another one when it ends without a byte.
    var again: ((Reactor) -> Void)?

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
    func accept(_ answer: HTTPResponseHead, _ channel: inout Channel, on reactor: Reactor) throws {}

    /// The time for the answer, if it is less than what the owner grants.
    var answerMilliseconds: Int { .max }

    /// The request waits to be sent; what goes out behind it.
    func asked(_ channel: inout Channel) {}

    override final func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        request.encode(into: &channel.output)
        asked(&channel)
    }

    override final func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        hasAnswerBegun = true
        again = nil
        do {
            guard case .complete(let head, let consumed) = try HTTPResponseHead.parse(bytes) else { return 0 }
            try accept(head, &channel, on: reactor)
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
        throw note(.cut(place: place, reason: "hung up without an answer", answerBegun: hasAnswerBegun))
    }

    override final func expired(on reactor: Reactor) {
        failure = .timedOut(place: place)
        abort(on: reactor)
    }

    override final func closed(_ reason: CloseReason, on reactor: Reactor) {
        let text = if case .failed(let error) = reason { "\(error)" } else { "the connection ended" }
        let error = failure ?? .cut(place: place, reason: text, answerBegun: hasAnswerBegun), failed = failed.take()
        if let again = again.take(), case .cut(_, _, answerBegun: false) = error { return again(reactor) }
        failed?(error, reactor)
    }

    override final func drain(on reactor: Reactor) {}
    override final var isBackground: Bool { true }
}

/// The way to an upgraded connection: reaches the hub, then asks. Either can be given up.
final class UpgradeAttempt {
    private let place: HostPort
    private let access: HubAccess
    private let connectMilliseconds: Int, milliseconds: Int
    private let ask: (consuming Channel) -> UpgradeQuestion
    private let failed: (DialError, Reactor) -> Void
    private var dial: HubDial?
    private var question: UpgradeQuestion?
    private var isCancelled = false

    /// Starts at once.
    /// - Parameters:
    ///   - spare: a spare connection will do; one that turns out dead is replaced.
    ///   - behind: the connection of this request, if it is kept and leads there, goes before any other.
    ///   - connectMilliseconds: for the TCP connection alone.
    ///   - milliseconds: for reaching the hub; as much again for its answer.
    ///   - ask: makes the question, which tells how it ended.
    ///   - failed: called once when the hub cannot be reached.
    init(
        to place: HostPort, through access: HubAccess, spare: HubDial.SpareUse = .leg, behind earlier: HubExchangeTicket? = nil,
        connectMilliseconds: Int, withinMilliseconds milliseconds: Int, on reactor: Reactor,
        ask: @escaping (consuming Channel) -> UpgradeQuestion,
        failed: @escaping (DialError, Reactor) -> Void
    ) {
        self.place = place
        self.access = access
        self.connectMilliseconds = connectMilliseconds
        self.milliseconds = milliseconds
        self.ask = ask
        self.failed = failed
        begin(spare, behind: earlier, on: reactor)
    }

    private func begin(_ spare: HubDial.SpareUse, behind earlier: HubExchangeTicket? = nil, on reactor: Reactor) {
        dial = HubDial(
            to: place, through: access, spare: spare, behind: earlier, connectMilliseconds: connectMilliseconds,
            withinMilliseconds: milliseconds,
            on: reactor
        ) { [self] result, reactor in
            let wasSpare = dial.take()?.isSpare == true
            switch consume result {
            case .failure(let error): failed(error, reactor)
            case .success(let channel):
                let question = ask(channel)
                self.question = question
                if wasSpare { question.again = { [self] reactor in repeatFresh(on: reactor) } }
                question.start(on: reactor)
                reactor.setDeadline(of: question, inMilliseconds: min(milliseconds, question.answerMilliseconds))
            }
        }
    }

    /// A spare connection was dead; the others probably are as well.
    private func repeatFresh(on reactor: Reactor) {
        question = nil
        guard !isCancelled else { return }
        access.spares(on: reactor)?.discard(on: reactor)
        begin(.none, on: reactor)
    }

    /// Gives up; `failed` may be called all the same.
    func cancel(on reactor: Reactor) {
        isCancelled = true
        dial.take()?.cancel(on: reactor)
        question.take()?.abort(on: reactor)
    }
}
