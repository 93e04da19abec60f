import Bytes
import Connections
import LinuxIO
import Wire

/// A connection on which a device speaks MQTT, bare on the MQTT port or inside a WebSocket on the HTTPS port (mqtt-device 2): its frames,
/// what a WebSocket peer says of the connection itself, and packets on their way out. What packets mean is its subclasses' affair.
///
/// Open, and so public, because roles subclass it.
open class MQTTConnection: Connection {
    private final var framing: DeviceFraming
    /// Whether packets travel in frames, on the HTTPS port.
    package final let isFramed: Bool
    private final let openingSeconds: Int

    /// - Parameters:
    ///   - framing: may have packets in it already.
    ///   - openingSeconds: what the peer has for its handshake, and then until the subclass sets another deadline.
    public init(_ channel: consuming Channel, framing: consuming DeviceFraming, openingSeconds: Int) {
        isFramed = framing.kind == .webSocket
        self.framing = framing
        self.openingSeconds = openingSeconds
        super.init(channel)
        openingMilliseconds = openingSeconds * 1000
        stallMilliseconds = ServingLimits.stallMilliseconds
    }

    // What subclasses override

    /// Works off whole packets and returns how many bytes they had; the rest is offered again with more behind it.
    open func process(_ bytes: RawSpan, on reactor: Reactor) -> Int { bytes.byteCount }

    /// The peer has said that it goes, or, if there is a fault, has broken the rules of its WebSocket: answered already, nothing more is
    /// to be read.
    open func goodbye(fault: String?, on reactor: Reactor) { finishLingering(on: reactor) }

    // What they call

    open override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        if isFramed {  // the listener's are those of a service
            let (idle, interval) = ServingLimits.deviceKeepAlive
            channel.transport.keepAlive(idleSeconds: idle, intervalSeconds: interval)
        }
        reactor.setDeadline(of: self, inMilliseconds: openingSeconds * 1000)
    }

    /// Takes in what has arrived, out of its frames if it is in any, and has it processed.
    ///
    /// - Returns: how many bytes were used.
    package final func take(_ bytes: RawSpan, on reactor: Reactor) -> Int {
        guard isFramed else { return process(bytes, on: reactor) }
        do throws(WebSocketError) {
            // The bytes are ours and used up whole: unmasking in place harms nobody.
            let controls = try bytes.withUnsafeBytes { raw throws(WebSocketError) in
                try framing.unwrap(UnsafeMutableRawBufferPointer(mutating: raw))
            }
            processUnwrapped(on: reactor)
            for control in controls { obey(control, on: reactor) }
        } catch {
            processUnwrapped(on: reactor)
            send(on: reactor) { WebSocketFrameHeader.encodeClose(code: error.closeCode, into: &$0) }
            goodbye(fault: "\(error)", on: reactor)
        }
        return bytes.byteCount
    }

    private func obey(_ control: WebSocketControl, on reactor: Reactor) {
        switch control {
        case .ping(let payload):
            if queuedBytes < Channel.highWater { send(on: reactor) { WebSocketFrameHeader.encodePong(payload, into: &$0) } }
        case .close(let code):
            send(on: reactor) { WebSocketFrameHeader.encodeClose(code: code, into: &$0) }
            goodbye(fault: nil, on: reactor)
        }
    }

    /// Goes on with what came in frames and has waited.
    package final func processUnwrapped(on reactor: Reactor) {
        guard !framing.packets.isEmpty else { return }
        var held = exchange(&framing.packets, with: ByteQueue())
        let used = held.withBytes { process($0, on: reactor) }
        held.consume(used)
        framing.packets = held
    }

    /// Sends a packet; `payload` is a PUBLISH's.
    package final func emit(_ packet: MQTTPacket, payload: RawSpan = RawSpan(), on reactor: Reactor) {
        send(on: reactor) { framing.append(packet, payload: payload, to: &$0) }
    }

    /// Sends acknowledgements, together.
    package final func acknowledge(_ ids: [UInt16], on reactor: Reactor) {
        send(on: reactor) { framing.appendPubacks(ids, to: &$0) }
    }

    /// The framing with what waits in it, for another connection that goes on with the channel.
    package final func takeFraming() -> DeviceFraming { exchange(&framing, with: DeviceFraming(.plain)) }

    /// What carries the packets, as the audit log names it.
    package final var transport: String { isFramed ? "mqtt-ws" : "mqtt" }
}
