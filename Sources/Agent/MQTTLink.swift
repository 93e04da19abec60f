import Bytes
import Connections
import LinuxIO
import Wire

/// Who is told what happens on a link.
protocol MQTTLinkOwner: AnyObject {
    /// Bytes may flow; the owner sends CONNECT.
    func opened(_ link: MQTTLink, on reactor: Reactor)
    func received(_ packet: MQTTPacket, from link: MQTTLink, on reactor: Reactor)
    /// The end, once, unless the owner ended it.
    func lost(_ link: MQTTLink, _ reason: String, on reactor: Reactor)
}

/// What the log says of a link that was refused.
private struct Refused: Error, CustomStringConvertible { let description: String }

/// An MQTT connection to a hub, bare or inside a WebSocket (mqtt-device 2.2), and whether anybody is still there.
final class MQTTLink: Connection {
    enum Framing { case bare, webSocket }

    /// Named in CONNECT; the hub drops us after one and a half times as long.
    static let keepAliveSeconds: UInt16 = 11
    private static let beatMilliseconds = 4000
    private static let pingMilliseconds: UInt64 = 7000, answerMilliseconds: UInt64 = 7000
    /// For CONNACK and SUBACK together.
    static let patienceMilliseconds = 15_000
    /// The longest packet a hub has for us is a request's PUBLISH; its topic alone may have 64 KiB.
    private static let packetLimit = 128 << 10

    private var framing = Framing.bare
    weak var owner: (any MQTTLinkOwner)?
    private var receiver = WebSocketReceiver(role: .client)
    private var packets = ByteQueue()
    private var isLive = false
    private var lastPing: UInt64 = 0
    private var pingSince: UInt64?
    private var failure: String?

    /// Call before `start`.
    func belong(to owner: any MQTTLinkOwner, framing: Framing) {
        self.owner = owner
        self.framing = framing
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        reactor.setDeadline(of: self, inMilliseconds: Self.patienceMilliseconds)
        owner?.opened(self, on: reactor)
    }

    /// Writes a packet; one that cannot be written is dropped, and the reason returned.
    @discardableResult
    func send(_ packet: MQTTPacket, on reactor: Reactor) -> MQTTError? {
        var bytes = ByteQueue()
        do throws(MQTTError) { try packet.write(to: &bytes) } catch { return error }
        send(on: reactor) { output in
            switch framing {
            case .bare: bytes.withBytes { output.append($0) }
            case .webSocket:
                bytes.withBytes { WebSocketFrameHeader.encodeFrame(.binary, $0, maskKey: WebSocketMask.randomKey(), into: &output) }
            }
        }
        return nil
    }

    /// Says goodbye and closes; the owner hears no more of it.
    func leave(on reactor: Reactor) {
        owner = nil
        send(.disconnect, on: reactor)
        if framing == .webSocket {
            send(on: reactor) { WebSocketFrameHeader.encodeClose(code: 1000, maskKey: WebSocketMask.randomKey(), into: &$0) }
        }
        finish(on: reactor)
        reactor.setDeadline(of: self, inMilliseconds: 5000)  // a dead path must not hold what is queued for ever
    }

    /// The conversation has begun: from now on silence is looked into.
    func goLive(on reactor: Reactor) {
        isLive = true
        lastPing = reactor.now
        reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
    }

    // What comes

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        switch framing {
        case .bare: packets.append(bytes)
        case .webSocket: try unwrap(bytes, &channel)
        }
        while !hasEnded, owner != nil {
            var parsed: (packet: MQTTPacket, length: Int)?
            do throws(MQTTError) {
                parsed = try packets.withBytes { waiting throws(MQTTError) in
                    switch try MQTTPacket.parse(waiting, limit: Self.packetLimit) {
                    case .needMoreData: nil
                    case .complete(let packet, let length): (packet, length)
                    }
                }
            } catch {
                throw note("the hub's bytes are no MQTT: \(error)")
            }
            guard let (packet, length) = parsed else { break }
            packets.consume(length)
            switch packet {
            case .pingresp: pingSince = nil
            case .publish(let publish) where publish.packetID != nil:
                if let id = publish.packetID { send(.puback(packetID: id), on: reactor) }
                owner?.received(packet, from: self, on: reactor)
            default: owner?.received(packet, from: self, on: reactor)
            }
        }
        packets.releaseIfEmpty()
        return bytes.byteCount
    }

    /// Takes the payload of WebSocket frames as one stream of bytes.
    private func unwrap(_ bytes: RawSpan, _ channel: inout Channel) throws {
        do {
            try bytes.withUnsafeBytes { raw in
                // A server's frames have no mask (the receiver refuses them otherwise), so nothing is changed in place.
                let buffer = UnsafeMutableRawBufferPointer(mutating: raw)
                var position = 0
                while let event = try receiver.next(in: buffer, at: &position) {
                    switch event {
                    case .dataBegin(.text, _, _): throw note("the hub sent text where MQTT belongs")
                    case .dataBegin: continue
                    case .payload(let range): packets.append(UnsafeRawBufferPointer(rebasing: raw[range]).bytes)
                    case .control(.ping, let payload):
                        guard channel.output.count < Channel.highWater else { continue }  // it pings and does not read
                        WebSocketFrameHeader.encodePong(payload, maskKey: WebSocketMask.randomKey(), into: &channel.output)
                    case .control: continue
                    case .close(let code, _):
                        failure = "the hub closed the connection\(code.map { ", code \($0)" } ?? "")"
                        WebSocketFrameHeader.encodeClose(code: code, maskKey: WebSocketMask.randomKey(), into: &channel.output)
                        channel.finishLingering()
                    }
                }
            }
        } catch let error as WebSocketError {
            throw note("the hub's bytes are no WebSocket: \(error)")
        }
    }

    private func note(_ text: String) -> any Error {
        failure = text
        return Refused(description: text)
    }

    // Whether anybody is there

    override func expired(on reactor: Reactor) {
        guard owner != nil else { return abort(on: reactor) }
        guard isLive else { return fail("the hub does not answer", on: reactor) }
        if isPathDead() { return fail("the path to the hub is dead", on: reactor) }
        let now = reactor.now
        if let since = pingSince {
            if now - min(since, now) >= Self.answerMilliseconds { return fail("the hub does not answer", on: reactor) }
        } else if now - min(lastPing, now) >= Self.pingMilliseconds {
            pingSince = now
            lastPing = now
            send(.pingreq, on: reactor)
        }
        reactor.setDeadline(of: self, inMilliseconds: Self.beatMilliseconds)
    }

    private func fail(_ text: String, on reactor: Reactor) {
        failure = text
        abort(on: reactor)
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        let text =
            switch reason {
            case .failed(let error): "\(error)"
            case .refused(let text): text
            case .finished, .aborted: "the hub closed the connection"
            }
        let owner = owner
        self.owner = nil
        owner?.lost(self, failure ?? text, on: reactor)
    }

    /// The agent says goodbye itself.
    override func drain(on reactor: Reactor) { if owner != nil { leave(on: reactor) } }
}
