import Connections
import LinuxIO
import Relay
import Wire

/// A stream's leg that is open, and beyond it the device.
struct OpenedStream: ~Copyable {
    private let channel: Channel
    private let carrier: WebSocketCarrier?
    /// The way that the device has chosen; nil: a plain device stream.
    let way: StreamWay?

    /// - Parameters:
    ///   - channel: of an end-to-end session where the way has one, else a WebSocket's after the 101.
    ///   - carrier: what carries the session, unless its socket is the leg itself.
    init(_ channel: consuming Channel, _ way: StreamWay?, carrier: WebSocketCarrier? = nil) {
        self.channel = channel
        self.way = way
        self.carrier = carrier
    }

    /// For the log: `blind`, `e2e`, or `websocket` for what the hub can read.
    var mode: String { way.flatMap { $0.isEndToEnd ? $0.rawValue : nil } ?? "websocket" }

    /// Gives the leg to the bridge of a local connection.
    consuming func join(_ bridge: LocalBridge, on reactor: Reactor) {
        let way = way, carrier = carrier
        if way?.isEndToEnd == true {
            bridge.join(sealed: channel, inside: carrier, on: reactor)
        } else {
            bridge.join(channel, isHalfClosing: way == .halfClose, on: reactor)
        }
    }
}
