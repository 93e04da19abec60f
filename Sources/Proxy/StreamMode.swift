import Console
import Wire

/// What a person asks for with `--mode`.
enum StreamMode: String, Sendable {
    /// The best that the hub, the device and the way there can do.
    case auto
    /// That, or nothing.
    case blind
    /// WebSocket, with an end-to-end session in it where the device can.
    case webSocket = "websocket"

    static let words = ["auto", "blind", "websocket"]

    static let option = Option.value(
        "mode", "MODE", "how bytes travel: auto (default), blind: past the hub or not at all, websocket: always in a WebSocket",
        completion: .words(words))

    /// The option, else the configuration.
    init(_ arguments: Arguments, _ top: Configuration.Section?) throws(Failure) {
        let word = try arguments.choice("mode", of: Self.words) ?? top?.text("mode") ?? "auto"
        self = StreamMode(rawValue: word) ?? .auto
    }

    /// What is offered to the device, best first.
    /// - Parameter isPathBad: the blind switch is known not to work on the way to this hub.
    func offer(isPathBad: Bool) -> [StreamWay] {
        switch self {
        case .blind: [.blind]
        case .auto where !isPathBad: [.blind, .endToEnd, .halfClose]
        case .auto, .webSocket: [.endToEnd, .halfClose]
        }
    }
}
