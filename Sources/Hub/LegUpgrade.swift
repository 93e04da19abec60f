import Connections
import LinuxIO
import Streams
import Wire

/// What a leg's connection is to become.
enum LegUpgrade: Sendable {
    case webSocket(WebSocketHandshake.Offer)
    case blind

    /// What a request asks for; fails with the status of the refusal.
    static func asked(by head: HTTPRequestHead) -> Result<LegUpgrade, Refused> {
        if BlindHandshake.isAsked(in: head) {
            return BlindHandshake.judge(head).map { .failure(Refused(status: $0)) } ?? .success(.blind)
        }
        switch WebSocketHandshake.judge(head) {
        case .upgrade(let offer): return .success(.webSocket(offer))
        case .refuse(let status): return .failure(Refused(status: status))
        }
    }

    struct Refused: Error { let status: Int }

    /// The 101.
    var answer: HTTPResponseHead {
        switch self {
        case .webSocket(let offer): WebSocketHandshake.answer(to: offer, subprotocol: offer.subprotocols.first)
        case .blind: BlindHandshake.answer()
        }
    }

    /// Whether a leg of this kind belongs to a stream that is carried in this way; nil is a plain device stream.
    func fits(_ way: StreamWay?) -> Bool {
        switch self {
        case .webSocket: way != .blind
        case .blind: way == .blind
        }
    }
}

/// A blind leg between its 101 and its first raw byte: both sides leave TLS.
final class BlindSwitch: Connection {
    private let leg: Leg
    private let milliseconds: Int
    private weak var stream: HubStream?

    init(_ channel: consuming Channel, of stream: HubStream, as leg: Leg, withinMilliseconds milliseconds: Int) {
        self.leg = leg
        self.milliseconds = milliseconds
        self.stream = stream
        super.init(channel)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.leave(saying: [])
        channel.bare()
        reactor.setDeadline(of: self, inMilliseconds: milliseconds)
    }

    override func bared(_ socket: consuming BareSocket, on reactor: Reactor) {
        stream?.switched(socket, as: leg, on: reactor)
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        let text = if case .failed(let error) = reason { error.description } else { "not in time" }
        stream?.switchFailed(text, of: leg, on: reactor)
    }

    /// It belongs to its stream, which decides.
    override func drain(on reactor: Reactor) {}
}
