import Bytes
import Wire

/// How a device's MQTT packets travel: bare on the MQTT port, or as the payload of binary WebSocket frames (mqtt-device 2.2).
///
/// Public, as the initializer of an open class takes it.
public struct DeviceFraming: ~Copyable {
    package enum Kind { case plain, webSocket }

    package let kind: Kind
    private var receiver = WebSocketReceiver(role: .server)
    /// MQTT taken out of frames, as far as it is no whole packet yet.
    package var packets = ByteQueue()

    package init(_ kind: Kind) { self.kind = kind }

    /// Takes the payload out of frames; the payload is a stream of bytes whatever its frames. Unmasks in place.
    ///
    /// - Returns: what the peer said about the connection itself, in order.
    package mutating func unwrap(_ buffer: UnsafeMutableRawBufferPointer) throws(WebSocketError) -> [WebSocketControl] {
        var controls: [WebSocketControl] = []
        var position = 0
        while let event = try receiver.next(in: buffer, at: &position) {
            switch event {
            case .dataBegin: continue
            case .payload(let range): packets.append(UnsafeRawBufferPointer(rebasing: buffer[range]).bytes)
            case .control(.ping, let payload): controls.append(.ping(payload))
            case .control: continue
            case .close(let code, _): controls.append(.close(code))
            }
        }
        return controls
    }

    /// Appends acknowledgements as they travel here: in one frame, if in any.
    package func appendPubacks(_ ids: [UInt16], to output: inout ByteQueue) {
        guard kind == .webSocket else { return MQTTPacket.writePubacks(ids, to: &output) }
        var frame = ByteQueue()
        MQTTPacket.writePubacks(ids, to: &frame)
        frame.withBytes { WebSocketFrameHeader.encodeFrame(.binary, $0, into: &output) }
    }

    /// Appends a packet as it travels here. One that cannot be written, as it is too large, is left out.
    package func append(_ packet: MQTTPacket, payload: RawSpan, to output: inout ByteQueue) {
        guard kind == .webSocket else {
            _ = try? packet.write(to: &output, payload: payload)
            return
        }
        var frame = ByteQueue()
        _ = try? packet.write(to: &frame, payload: payload)
        frame.withBytes { WebSocketFrameHeader.encodeFrame(.binary, $0, into: &output) }
    }
}

/// What a WebSocket peer says besides its payload and wants answered.
package enum WebSocketControl {
    case ping([UInt8])
    case close(UInt16?)
}
