import Bytes
import Connections
import Console
import LinuxIO
import Registry
import Streams
import Wire

/// A connection to the HTTPS port: requests of the service API one after the other, or one upgrade that turns it into a
/// device's MQTT connection or a leg of a stream.
final class HTTPConnection: Connection {
    private enum Phase {
        case head
        case body(HTTPRequestHead, HTTPBodyDecoder)
        /// A request is being worked on; what is behind it waits.
        case answering
    }

    let core: HubCore
    private var phase = Phase.head
    private var body = ByteQueue()
    private var keepsAlive = true
    private var answersHead = false
    private var hasBegun = false  // the first byte of a head has come
    private var hasUpgraded = false
    /// Grows with each request, so that a late answer cannot be taken for another request's.
    private(set) var serial = 0
    /// The stream whose opening is being answered.
    private var stream: HubStream?
    /// Certificates that the client has shown, leaf first, DER.
    private(set) var chain: [[UInt8]] = []

    init(_ channel: consuming Channel, core: HubCore) {
        self.core = core
        super.init(channel)
        openingMilliseconds = core.limits.handshakeSeconds * 1000
        stallMilliseconds = HubLimits.stallMilliseconds
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.transport.keepAlive(idleSeconds: 30, intervalSeconds: 5)
        chain = channel.peerChain
        // A client may keep a connection ready for its first request as well as for its next one.
        reactor.setDeadline(of: self, inMilliseconds: core.limits.idleSeconds * 1000)
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        var used = 0
        while !hasUpgraded {
            switch phase {
            case .answering: return used
            case .head:
                guard used < bytes.byteCount else { return used }
                do throws(HTTPError) {
                    switch try HTTPRequestHead.parse(bytes.extracting(used..<bytes.byteCount), limits: .standard) {
                    case .needMoreData:
                        if !hasBegun {
                            hasBegun = true
                            reactor.setDeadline(of: self, inMilliseconds: core.limits.handshakeSeconds * 1000)
                        }
                        return used
                    case .complete(let head, let consumed):
                        used += consumed
                        try begin(head, &channel, on: reactor)
                    }
                } catch {
                    refuse(error, &channel, on: reactor)
                    return bytes.byteCount
                }
            case .body(let head, var decoder):
                do throws(HTTPError) {
                    let (consumed, isFinished) = try decoder.decode(bytes.extracting(used..<bytes.byteCount), into: &body)
                    used += consumed
                    guard isFinished else {
                        phase = .body(head, decoder)
                        return used
                    }
                } catch {
                    refuse(error, &channel, on: reactor)
                    return bytes.byteCount
                }
                dispatch(head, on: reactor)
            }
        }
        return used
    }

    private func begin(_ head: HTTPRequestHead, _ channel: inout Channel, on reactor: Reactor) throws(HTTPError) {
        hasBegun = false
        serial += 1
        keepsAlive = head.keepsAlive
        answersHead = head.method == "HEAD"
        if try upgrade(head, &channel, on: reactor) { return }
        let decoder = try HTTPBodyDecoder.forRequest(head, limit: core.limits.requestBytes)
        if decoder.isFinished { return dispatch(head, on: reactor) }
        if head.expectsContinue { send("HTTP/1.1 100 Continue\r\n\r\n".utf8Span.span.bytes, on: reactor) }
        reactor.setDeadline(of: self, inMilliseconds: core.limits.handshakeSeconds * 3000)
        phase = .body(head, decoder)
    }

    private func dispatch(_ head: HTTPRequestHead, on reactor: Reactor) {
        phase = .answering
        reactor.setDeadline(of: self, inMilliseconds: nil)
        let content = body.toArray()
        body = ByteQueue()
        let request = ServiceRequest(head: head, body: content, connection: self, reactor: reactor)
        if let answer = request.serve() { self.answer(answer, to: serial, on: reactor) }
    }

    private func refuse(_ error: HTTPError, _ channel: inout Channel, on reactor: Reactor) {
        Log.info("http-refused", ["peer": peer?.description ?? "", "reason": error.description])
        phase = .answering
        keepsAlive = false
        serial += 1
        answer(HTTPAnswer(status: error.status, errorName: "IotHubFormatError", message: error.description), to: serial, on: reactor)
    }

    // Answers

    /// Answers request number `serial`, unless it is over already.
    func answer(_ answer: HTTPAnswer, to serial: Int, on reactor: Reactor) {
        guard serial == self.serial, case .answering = phase else { return }
        stream = nil
        var head = HTTPResponseHead(status: answer.status, headers: answer.headers)
        head.headers.add("Date", Desk.of(reactor)?.httpDate() ?? HTTPDate.text(Clock.unixSeconds))
        head.headers.add("x-ms-request-id", Self.requestID())
        if !keepsAlive { head.headers.add("Connection", "close") }
        send(on: reactor) { output in
            if answersHead {
                head.headers["Content-Length"] = String(answer.body.count)
                head.encode(into: &output)
            } else {
                head.encode(body: answer.body.span.bytes, into: &output)
            }
        }
        guard keepsAlive, !reactor.isDraining else { return finishLingering(on: reactor) }
        phase = .head
        reactor.setDeadline(of: self, inMilliseconds: core.limits.idleSeconds * 1000)
        resume(on: reactor)
    }

    private static func requestID() -> String {
        let digits = Hex.encode([UInt8].random(count: 16))
        var text = ""
        for (index, digit) in digits.enumerated() {
            if [8, 12, 16, 20].contains(index) { text.append("-") }
            text.append(digit)
        }
        return text
    }

    // Streams

    /// Waits for a stream's verdict instead of answering now.
    func wait(for stream: HubStream) { self.stream = stream }

    func answer(_ verdict: StreamSession.Verdict, of stream: HubStream, on reactor: Reactor) {
        guard self.stream === stream else { return }
        let acceptance = verdict == .accepted ? stream.acceptance() : HTTPHeaders()
        answer(HTTPAnswer(verdict, acceptance: acceptance, patience: stream.order.patience), to: serial, on: reactor)
    }

    // Upgrades

    /// Turns the connection into something else; false for an ordinary request.
    private func upgrade(_ head: HTTPRequestHead, _ channel: inout Channel, on reactor: Reactor) throws(HTTPError) -> Bool {
        let path = head.path
        let isDevice = path == "/$iothub/websocket" || path == "/%24iothub/websocket" || path == "/%24iothub%2Fwebsocket"
        guard isDevice || path.hasPrefix(LegPath.prefix) else { return false }
        let wanted: LegUpgrade
        switch LegUpgrade.asked(by: head) {
        case .failure(let refused): return refuseUpgrade(refused.status, &channel, on: reactor)
        case .success(let upgrade): wanted = upgrade
        }
        let core = self.core
        if isDevice {
            guard case .webSocket(let offer) = wanted,
                let subprotocol = offer.subprotocols.first(where: { ASCII.equalIgnoringCase($0, "mqtt") })
            else {
                return refuseUpgrade(400, &channel, on: reactor)
            }
            let authority = core.authority(of: head)
            hasUpgraded = true
            channel.move(to: reactor.mailbox) { channel, reactor in
                var response = WebSocketHandshake.answer(to: offer, subprotocol: subprotocol)
                response.headers.add("Date", HTTPDate.text(Clock.unixSeconds))
                var channel = channel
                response.encode(into: &channel.output)
                return DeviceConnection(channel, core: core, framing: .webSocket, authority: authority)
            }
            return true
        }
        guard let leg = LegPath(path), leg.stream.home < core.mailboxes.count else { return refuseUpgrade(404, &channel, on: reactor) }
        let authorization = head.headers["Authorization"]
        hasUpgraded = true
        channel.move(to: core.mailboxes[leg.stream.home]) { channel, reactor in
            guard let desk = Desk.of(reactor) else { return Connection(channel) }
            return desk.admit(channel, path: leg, authorization: authorization, upgrade: wanted, on: reactor)
        }
        return true
    }

    private func refuseUpgrade(_ status: Int, _ channel: inout Channel, on reactor: Reactor) -> Bool {
        hasUpgraded = true
        send(on: reactor) { output in
            var response = WebSocketHandshake.refusal(status: status)
            response.headers.add("Date", HTTPDate.text(Clock.unixSeconds))
            response.encode(into: &output)
        }
        finishLingering(on: reactor)
        return true
    }

    // The end

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        if let stream {
            self.stream = nil
            stream.handle(.requesterGone, on: reactor)
            channel.finish()
        } else if case .answering = phase {
            // It has said all it wants to and waits for its answers; called again after each of them.
        } else {
            channel.finish()
        }
    }

    override func expired(on reactor: Reactor) {
        switch phase {
        case .head where !hasBegun: finish(on: reactor)
        case .answering: break
        default:
            phase = .answering
            keepsAlive = false
            answer(
                HTTPAnswer(status: 408, errorName: "RequestTimeout", message: "the request did not arrive in time"), to: serial, on: reactor
            )
        }
    }

    override func drain(on reactor: Reactor) {
        keepsAlive = false
        if case .answering = phase { return }
        finish(on: reactor)
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        if case .failed(let error) = reason, serial == 0 {
            Log.info("connection-failed", ["peer": peer?.description ?? "", "reason": error.description])
        }
        if let stream {
            self.stream = nil
            stream.handle(.requesterGone, on: reactor)
        }
    }
}

extension HubCore {
    /// Host and port by which a request reached the hub, for URLs that go back the same way. A name that is not the hub's
    /// gives way to its first.
    func authority(of head: HTTPRequestHead) -> HostPort {
        guard let host = head.host, answers(to: host.host) else { return HostPort(host: names.first ?? "localhost", port: httpsPort) }
        return HostPort(host: host.host, port: host.port ?? 443)
    }
}
