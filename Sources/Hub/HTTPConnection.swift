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
        case body(HTTPBodyDecoder)
        /// A request is being worked on; what is behind it waits.
        case answering
    }

    let core: HubCore
    private var phase = Phase.head
    /// Where the body of the request goes that comes now.
    private(set) var body: RequestBody?
    /// The file that is the body of the answer.
    private(set) var sending: BlobSending?
    private var keepsAlive = true
    private var answersHead = false
    private var hasBegun = false  // the first byte of a head has come
    /// It is something else from now on.
    var hasUpgraded = false
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
            case .body(var decoder):
                guard let body, !body.isFull else {
                    channel.pause()
                    return used
                }
                let isWhole: Bool
                do throws(HTTPError) {
                    let (consumed, isFinished) = try decoder.decode(bytes.extracting(used..<bytes.byteCount), into: &body.arrived)
                    used += consumed
                    isWhole = isFinished
                } catch {
                    if body.isAnswered { finishLingering(on: reactor) } else { refuse(error, &channel, on: reactor) }
                    return bytes.byteCount
                }
                phase = isWhole ? .answering : .body(decoder)
                if isWhole || body.pieceSeconds != nil { setBodyDeadline(of: body, isWhole: isWhole, on: reactor) }
                body.came(isWhole: isWhole, on: self, reactor)
                guard isWhole else { return used }
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
        guard let file = BlobRequest(head, on: self, reactor) else {
            return try take(
                CollectedBody(limit: core.limits.requestBytes) { [unowned self] content in
                    ServiceRequest(head: head, body: content, connection: self, reactor: reactor).serve()
                }, of: head, on: reactor)
        }
        switch file.begin() {
        case .body(let body): try take(body, of: head, on: reactor)
        case .answer(let answer):
            let decoder = try HTTPBodyDecoder.forRequest(head, limit: .max)
            // A client that waits to be told so sends no body now, or does so nevertheless.
            if head.expectsContinue, !decoder.isFinished { keepsAlive = false }
            if !decoder.isFinished, !head.expectsContinue { body = DroppedBody() }
            phase = body == nil ? .answering : .body(decoder)
            self.answer(answer, to: serial, on: reactor)
        case .later:
            phase = .answering
            if try head.headers.framing(minorVersion: head.minorVersion) != .none { keepsAlive = false }
            reactor.setDeadline(of: self, inMilliseconds: nil)
        }
    }

    /// Takes the body of a request, if there is one.
    private func take(_ body: RequestBody, of head: HTTPRequestHead, on reactor: Reactor) throws(HTTPError) {
        let decoder: HTTPBodyDecoder
        do throws(HTTPError) {
            decoder = try HTTPBodyDecoder.forRequest(head, limit: body.limit)
        } catch {
            self.body = body  // the refusal has its form
            throw error
        }
        self.body = body
        phase = decoder.isFinished ? .answering : .body(decoder)
        if !decoder.isFinished, head.expectsContinue { send("HTTP/1.1 100 Continue\r\n\r\n".utf8Span.span.bytes, on: reactor) }
        setBodyDeadline(of: body, isWhole: decoder.isFinished, on: reactor)
        if decoder.isFinished { body.came(isWhole: true, on: self, reactor) }
    }

    private func setBodyDeadline(of body: RequestBody, isWhole: Bool, on reactor: Reactor) {
        let seconds = isWhole ? nil : body.pieceSeconds ?? core.limits.handshakeSeconds * 3
        reactor.setDeadline(of: self, inMilliseconds: seconds.map { $0 * 1000 })
    }

    private func refuse(_ error: HTTPError, _ channel: inout Channel, on reactor: Reactor) {
        Log.info("http-refused", ["peer": peer?.description ?? "", "reason": error.description])
        phase = .answering
        keepsAlive = false
        serial += 1
        let form = body ?? RequestBody(limit: 0)
        answer(form.refusal(status: error.status, error.description), to: serial, on: reactor)
    }

    // Answers

    /// Answers request number `serial`, unless it is over already. What is missing of its body is read over where that is worth while.
    func answer(_ answer: HTTPAnswer, to serial: Int, on reactor: Reactor) {
        guard serial == self.serial, sending == nil else { return }
        var isRestDropped = false
        switch phase {
        case .head: return
        case .body:
            guard let body, !body.isAnswered else { return }
            isRestDropped = body.mayBeDropped
            if !isRestDropped {
                keepsAlive = false
                phase = .answering
            }
        case .answering: break
        }
        dropBody()
        stream = nil
        var head = HTTPResponseHead(status: answer.status, headers: answer.headers)
        head.headers.add("Date", Desk.of(reactor)?.httpDate() ?? HTTPDate.text(Clock.unixSeconds))
        head.headers.add("x-ms-request-id", Self.requestID())
        if !keepsAlive { head.headers.add("Connection", "close") }
        send(on: reactor) { output in
            if answersHead || answer.part != nil {
                head.headers["Content-Length"] = String(answer.part?.range.count ?? answer.body.count)
                head.encode(into: &output)
            } else {
                head.encode(body: answer.body.span.bytes, into: &output)
            }
        }
        if let part = answer.part, !answersHead, !part.range.isEmpty {
            sending = BlobSending(part, at: core.uploads)
            sent(on: reactor)
        } else if isRestDropped {
            let rest = DroppedBody()
            rest.isAnswered = true
            body = rest
            setBodyDeadline(of: rest, isWhole: false, on: reactor)
            resume(on: reactor)
        } else {
            endAnswer(on: reactor)
        }
    }

    /// A part of a file has been handed on to be sent; the next one follows.
    func sent(on reactor: Reactor) {
        guard let sending else { return }
        guard sending.isDone else {
            reactor.setDeadline(of: self, inMilliseconds: core.limits.idleSeconds * 1000)
            return sending.proceed(self, reactor)
        }
        self.sending = nil
        endAnswer(on: reactor)
    }

    override func drained(on reactor: Reactor) { sending?.proceed(self, reactor) }

    /// Goes on to the next request.
    func endAnswer(on reactor: Reactor) {
        body = nil
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
        case .answering: if sending != nil { abort(on: reactor) }  // it takes nothing
        case .body where body?.isAnswered == true: finishLingering(on: reactor)
        default:
            phase = .answering
            keepsAlive = false
            let form = body ?? RequestBody(limit: 0)
            answer(form.refusal(status: 408, "the request did not arrive in time"), to: serial, on: reactor)
        }
    }

    override func drain(on reactor: Reactor) {
        keepsAlive = false
        if case .answering = phase { return }
        if body?.pieceSeconds != nil { return }  // a file that is coming may come whole
        finish(on: reactor)
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        if case .failed(let error) = reason, serial == 0 {
            Log.info("connection-failed", ["peer": peer?.description ?? "", "reason": error.description])
        }
        dropBody()
        if let stream {
            self.stream = nil
            stream.handle(.requesterGone, on: reactor)
        }
    }

    private func dropBody() {
        body?.abandon()
        body = nil
    }
}
