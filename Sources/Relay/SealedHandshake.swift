import Connections
import Glibc
import LinuxIO

/// The handshake of an end-to-end session over a socket that carries nothing else; gives the channel on when it is over and the peer is
/// the right one. Either end of it.
package final class SealedHandshake: Connection {
    /// Why no session came to be.
    package enum Refusal: Error, Equatable, Sendable {
        /// The peer is not admitted; whoever said so knows why.
        case notAdmitted
        /// It did not come to an end in time.
        case timedOut
        /// The transport failed: an alert, something that is no TLS, the end of the connection.
        case failed(TransportError)

        /// One line.
        package var description: String {
            switch self {
            case .notAdmitted: "peer not admitted"
            case .timedOut: "no end-to-end handshake in time"
            case .failed(let error): error.description
            }
        }
    }

    package typealias Answer = (consuming Result<Channel, Refusal>, Reactor) -> Void

    private let admits: ([[UInt8]]) -> Bool
    private var answer: Answer?
    private var refusal: Refusal?
    /// The socket a second time, so that an alert that was sent arrives although bytes of the peer's have not been read.
    private var lastWords: OwnedDescriptor?

    /// - Parameters:
    ///   - lingers: whether a peer that is refused is given time to read the alert.
    ///   - admits: judges the certificates that the peer has shown, leaf first, DER. Called for resumed sessions as well.
    package init(
        _ transport: consuming Transport, withinMilliseconds milliseconds: Int, lingers: Bool = false,
        admits: @escaping ([[UInt8]]) -> Bool, _ answer: @escaping Answer
    ) {
        self.admits = admits
        self.answer = answer
        lastWords = lingers ? transport.duplicate() : nil
        super.init(Channel(transport))
        openingMilliseconds = milliseconds
    }

    /// Gives up without an answer.
    package func cancel(on reactor: Reactor) {
        answer = nil
        lastWords = nil
        abort(on: reactor)
    }

    public override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        guard admits(channel.peerChain) else {
            refusal = .notAdmitted
            throw Refusal.notAdmitted
        }
        channel.handOn()
    }

    public override func handedOn(_ channel: consuming Channel, on reactor: Reactor) {
        lastWords = nil
        answer.take()?(.success(channel), reactor)
    }

    public override func expired(on reactor: Reactor) {
        refusal = .timedOut
        abort(on: reactor)
    }

    public override func closed(_ reason: CloseReason, on reactor: Reactor) {
        if let socket = lastWords.take() {
            let farewell = Farewell(Channel(Transport(socket)))
            farewell.start(on: reactor)
            farewell.finishLingering(on: reactor)
        }
        let failure: Refusal = if case .failed(let error) = reason { .failed(error) } else { .failed(.tls(.cutInHandshake)) }
        answer.take()?(.failure(refusal ?? failure), reactor)
    }

    public override func drain(on reactor: Reactor) {}
    public override var isBackground: Bool { true }
}

/// Lets go of a peer without a RST.
private final class Farewell: Connection {
    override var isBackground: Bool { true }
}
