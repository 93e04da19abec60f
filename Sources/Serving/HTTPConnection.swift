import Bytes
import Connections
import Console
import LinuxIO
import TLS
import Wire

/// A connection to the HTTPS port: requests one after the other, or one upgrade that turns it into something else.
public final class HTTPConnection: Connection {
    private enum Phase {
        case head
        case body(HTTPBodyDecoder)
        /// A request is being worked on; what is behind it waits.
        case answering
    }

    private let service: any HTTPService
    private var phase = Phase.head
    /// Where the body of the request goes that comes now.
    package private(set) var body: RequestBody?
    /// The body of the answer, where that goes out a piece at a time.
    package private(set) var sending: (any AnswerSending)?
    private var keepsAlive = true
    private var answersHead = false
    private var hasBegun = false  // the first byte of a head has come
    /// It is something else from now on.
    private var hasUpgraded = false
    /// Grows with each request, so that a late answer cannot be taken for another request's.
    package private(set) var serial = 0
    /// The answer may be an upgrade, for which the client may have left TLS already; see `wait`.
    private var mayUpgrade = false
    /// Whether such a client has been told that it has to wait.
    private var hasTold = false
    /// After which it is: a go-between that does not get on with what such a client does is then known from a device that takes its time.
    private static let tellMilliseconds = 1000
    /// What is told when the requester goes away before the answer.
    private var abandoned: ((Reactor) -> Void)?
    /// What the client has shown in its handshake.
    package private(set) var certificates = ClientCertificates()

    /// Whom a request on it was last found to come from, as an audit log names them; empty before.
    package var actor = ""

    private var limits: ServingLimits { service.servingLimits }

    package init(_ channel: consuming Channel, service: any HTTPService) {
        self.service = service
        super.init(channel)
        openingMilliseconds = limits.handshakeSeconds * 1000
        stallMilliseconds = ServingLimits.stallMilliseconds
    }

    public override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        certificates = ClientCertificates(channel.peerChain)
        // A client may keep a connection ready for its first request as well as for its next one.
        reactor.setDeadline(of: self, inMilliseconds: limits.idleSeconds * 1000)
    }

    public override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
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
                            reactor.setDeadline(of: self, inMilliseconds: limits.handshakeSeconds * 1000)
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
        keepsAlive = head.keepsAlive && !BlindHandshake.isAsked(in: head)  // our client may have left TLS behind its request
        answersHead = head.method == "HEAD"
        switch service.begin(head, on: self, reactor) {
        case .upgrade(let mailbox, let rebuild):
            hasUpgraded = true
            channel.move(to: mailbox, rebuild: rebuild)
        case .noUpgrade(let status): refuseUpgrade(status, on: reactor)
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
        let seconds = isWhole ? nil : body.pieceSeconds ?? limits.handshakeSeconds * 3
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
    package func answer(_ answer: HTTPAnswer, to serial: Int, on reactor: Reactor) {
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
        abandoned = nil
        var head = HTTPResponseHead(status: answer.status, headers: answer.headers)
        head.headers.add("Date", service.date(on: reactor))
        head.headers.add("x-ms-request-id", Self.requestID())
        if !keepsAlive { head.headers.add("Connection", "close") }
        send(on: reactor) { output in
            if answersHead || answer.part != nil {
                head.headers["Content-Length"] = String(answer.part?.count ?? answer.body.count)
                head.encode(into: &output)
            } else {
                head.encode(body: answer.body.span.bytes, into: &output)
            }
        }
        if let part = answer.part, !answersHead, part.count > 0 {
            sending = part.sending()
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
    package func sent(on reactor: Reactor) {
        guard let sending else { return }
        guard sending.isDone else {
            reactor.setDeadline(of: self, inMilliseconds: limits.idleSeconds * 1000)
            return sending.proceed(self, reactor)
        }
        self.sending = nil
        endAnswer(on: reactor)
    }

    public override func drained(on reactor: Reactor) { sending?.proceed(self, reactor) }

    /// Goes on to the next request.
    func endAnswer(on reactor: Reactor) {
        body = nil
        guard keepsAlive, !reactor.isDraining else { return finishLingering(on: reactor) }
        phase = .head
        reactor.setDeadline(of: self, inMilliseconds: limits.idleSeconds * 1000)
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

    /// Has `abandoned` called if the requester goes away before the answer, which comes later.
    /// - Parameter mayUpgrade: `upgrade` may be the answer. Whoever asks for that may say close_notify, and nothing more over TLS, before.
    package func wait(mayUpgrade: Bool = false, on reactor: Reactor, abandoned: @escaping (Reactor) -> Void) {
        self.abandoned = abandoned
        self.mayUpgrade = mayUpgrade
        hasTold = false
        if mayUpgrade { reactor.setDeadline(of: self, inMilliseconds: Self.tellMilliseconds) }
    }

    /// Answers request number `serial` by becoming what `rebuild` makes of the connection; false where that cannot be, and nothing is done.
    package func upgrade(_ serial: Int, on reactor: Reactor, rebuild: @escaping Channel.Rebuild) -> Bool {
        guard serial == self.serial, mayUpgrade, case .answering = phase, sending == nil, !hasEnded else { return false }
        dropBody()
        abandoned = nil
        hasUpgraded = true
        move(to: reactor.mailbox, on: reactor, rebuild: rebuild)
        return true
    }

    private func refuseUpgrade(_ status: Int, on reactor: Reactor) {
        hasUpgraded = true
        send(on: reactor) { output in
            var response = WebSocketHandshake.refusal(status: status)
            response.headers.add("Date", service.date(on: reactor))
            response.encode(into: &output)
        }
        finishLingering(on: reactor)
    }

    // The end

    public override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        if mayUpgrade, !channel.hungUp, abandoned != nil {
            // It has left TLS, and waits.
        } else if let abandoned = abandoned.take() {
            abandoned(reactor)
            channel.finish()
        } else if case .answering = phase {
            // It has said all it wants to and waits for its answers; called again after each of them.
        } else {
            channel.finish()
        }
    }

    public override func hungUp(_ channel: inout Channel, on reactor: Reactor) {
        guard mayUpgrade, let abandoned = abandoned.take() else { return }
        abandoned(reactor)
        channel.finish()
    }

    public override func expired(on reactor: Reactor) {
        switch phase {
        case .answering where mayUpgrade && abandoned != nil:
            if !exchange(&hasTold, with: true) { send("HTTP/1.1 102 Processing\r\n\r\n".utf8Span.span.bytes, on: reactor) }
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

    public override func drain(on reactor: Reactor) {
        keepsAlive = false
        if case .answering = phase { return }
        if body?.pieceSeconds != nil { return }  // a file that is coming may come whole
        finish(on: reactor)
    }

    public override func closed(_ reason: CloseReason, on reactor: Reactor) {
        if case .failed(let error) = reason, serial == 0 {
            Log.info("connection-failed", ["peer": peer?.description ?? "", "reason": error.description])
        }
        dropBody()
        abandoned.take()?(reactor)
    }

    private func dropBody() {
        body?.abandon()
        body = nil
    }
}
