import Connections
import LinuxIO
import Wire

/// Opens a blind leg as a client: reaches the hub, asks for the upgrade, checks the 101 and leaves TLS (iotstream-protocol(7)). Answers
/// once, with the socket on which from then on both directions are the caller's own.
package final class BlindUpgrade {
    package typealias Answer = (consuming Result<BareSocket, DialError>, Reactor) -> Void

    private var answer: Answer?
    private var attempt: UpgradeAttempt?

    /// Starts at once; the answer comes later, from the reactor's loop.
    /// - Parameters:
    ///   - url: where the leg belongs, as the hub has named it.
    ///   - bearer: the leg's token.
    ///   - first: what our direction begins with outside of TLS. It goes out with the request, before it is known whether there will be a
    ///     leg, and a second time when the connection turns out to have been dead.
    ///   - behind: the connection of this request, if it is kept and leads there, goes before any other.
    ///   - connectMilliseconds: for the TCP connection alone.
    ///   - milliseconds: for reaching the hub; its answer and leaving TLS have a few seconds.
    @discardableResult
    package init(
        to url: StreamURL, through access: HubAccess, bearer: String, saying first: [UInt8] = [], behind earlier: HubExchangeTicket? = nil,
        connectMilliseconds: Int = 15_000,
        withinMilliseconds milliseconds: Int = 30_000, on reactor: Reactor, _ answer: @escaping Answer
    ) {
        self.answer = answer
        attempt = UpgradeAttempt(
            to: url.authority, through: access, behind: earlier, connectMilliseconds: connectMilliseconds, withinMilliseconds: milliseconds,
            on: reactor,
            ask: { [self] channel in
                BlindQuestion(channel, to: url, bearer: bearer, saying: first) { [self] result, reactor in finish(result, on: reactor) }
            },
            failed: { [self] error, reactor in finish(.failure(error), on: reactor) })
    }

    /// Gives up without an answer.
    package func cancel(on reactor: Reactor) {
        answer = nil
        attempt.take()?.cancel(on: reactor)
    }

    private func finish(_ result: consuming Result<BareSocket, DialError>, on reactor: Reactor) {
        attempt = nil
        answer.take()?(result, reactor)
    }
}

private final class BlindQuestion: UpgradeQuestion {
    private static let switchMilliseconds = 5000
    private var answer: BlindUpgrade.Answer?
    private let first: [UInt8]

    init(_ channel: consuming Channel, to url: StreamURL, bearer: String, saying first: [UInt8], answer: @escaping BlindUpgrade.Answer) {
        self.answer = answer
        self.first = first
        super.init(channel, asking: BlindHandshake.request(to: url, bearer: bearer), of: url.authority.description) { error, reactor in
            answer(.failure(error), reactor)
        }
    }

    /// A hub that is to become blind takes it, so nothing is gained by waiting for its word.
    override func asked(_ channel: inout Channel) { channel.leave(saying: first) }
    /// A middlebox that does not know what to make of a close_notify behind a request may say nothing at all.
    override var answerMilliseconds: Int { Self.switchMilliseconds }

    override func accept(_ head: HTTPResponseHead, _ channel: inout Channel, on reactor: Reactor) throws {
        try BlindHandshake.check(head)
        channel.bare()
        // The hub has said its close_notify already: whoever waits for one now waits for a middlebox.
        reactor.setDeadline(of: self, inMilliseconds: Self.switchMilliseconds)
    }

    override func bared(_ socket: consuming BareSocket, on reactor: Reactor) { answer.take()?(.success(socket), reactor) }
}
