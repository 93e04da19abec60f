import Bytes
import ServerDouble
import Synchronization
import Wire

/// A hub's service side with an echo behind it, as a test wants it. One object to a connection.
final class ServiceDouble: Script {
    struct Behaviour: Sendable {
        /// Answers to POST: those of the connection, then of all requests in turn; nil leaves it open.
        var answer: @Sendable (HTTPRequestHead, Int) -> HTTPResponseHead?
        var takesLeg = true
    }

    /// What the hub has seen, from all connections.
    final class Record: Sendable {
        let requests = Mutex<[HTTPRequestHead]>([])
        let upgrades = Mutex<[HTTPRequestHead]>([])
    }

    private let behaviour: Behaviour
    private let record: Record
    private var isUpgraded = false
    private var receiver = WebSocketReceiver(role: .server)

    init(_ behaviour: Behaviour, _ record: Record) {
        self.behaviour = behaviour
        self.record = record
    }

    func received(_ bytes: RawSpan, _ reply: inout Reply) {
        while !isUpgraded, reply.end == nil, reply.used < bytes.byteCount {
            guard let parsed = try? HTTPRequestHead.parse(bytes.extracting(reply.used..<bytes.byteCount)),
                case .complete(let head, let consumed) = parsed
            else { return }
            reply.used += consumed
            if let key = head.headers["Sec-WebSocket-Key"] {
                record.upgrades.withLock { $0.append(head) }
                guard behaviour.takesLeg else {
                    WebSocketHandshake.refusal(status: 404).encode(into: &reply.output)
                    return reply.end = .finish
                }
                WebSocketHandshake.answer(to: .init(key: key, subprotocols: [])).encode(into: &reply.output)
                // The device speaks first, in the same segment.
                WebSocketFrameHeader.encodeFrame(.binary, "hello ".utf8Span.span.bytes, into: &reply.output)
                isUpgraded = true
            } else {
                let number = record.requests.withLock { requests in
                    requests.append(head)
                    return requests.count - 1
                }
                behaviour.answer(head, number)?.encode(into: &reply.output)
            }
        }
        echo(bytes, &reply)
    }

    /// Every message back as it came, an empty one and a Close too.
    private func echo(_ bytes: RawSpan, _ reply: inout Reply) {
        guard isUpgraded else { return }
        var copy = bytes.extracting(reply.used..<bytes.byteCount).toArray()
        reply.used = bytes.byteCount
        var position = 0
        while true {
            let event = try? copy.withUnsafeMutableBytes { try receiver.next(in: $0, at: &position) }
            switch event {
            case .dataBegin(_, _, let length)?: WebSocketFrameHeader(opcode: .binary, payloadLength: length).encode(into: &reply.output)
            case .payload(let range)?: reply.output.append(copy[range])
            case .close(let code, _)?:
                WebSocketFrameHeader.encodeClose(code: code, into: &reply.output)
                return reply.end = .finish
            case .control?: continue
            case nil: return
            }
        }
    }

    /// The answer of a device that accepts.
    static func accepted(_ head: HTTPRequestHead, chosen: String? = "half-close") -> HTTPResponseHead {
        var headers: HTTPHeaders = [
            "Content-Length": "0", "iothub-streaming-is-accepted": "True",
            "iothub-streaming-url": "wss://\(head.headers["Host"] ?? "")/bridges/x", "iothub-streaming-auth-token": "leg-token",
        ]
        if let chosen { headers.add("iotstream-chosen", chosen) }
        return HTTPResponseHead(status: 200, headers: headers)
    }
}
