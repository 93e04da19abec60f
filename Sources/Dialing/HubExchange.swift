import Bytes
import Connections
import LinuxIO
import Wire

/// A request to a hub's HTTPS side. Prints without its headers, which hold a token.
package struct HubRequest: Sendable, CustomStringConvertible, CustomReflectable {
    package var method: String
    /// Path and query, percent-encoded: `/devices/d1?api-version=2021-04-12`.
    package var target: String
    /// Host, Content-Length and Connection are added.
    package var headers: HTTPHeaders
    package var body: [UInt8]

    package init(_ method: String, _ target: String, headers: HTTPHeaders = HTTPHeaders(), body: [UInt8] = []) {
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
    }

    package var description: String { "HubRequest(\(method) \(target))" }
    package var customMirror: Mirror { Mirror(self, children: ["method": method, "target": target]) }

    func write(to place: HostPort, keepsAlive: Bool, into output: inout ByteQueue) {
        var head = HTTPRequestHead(method: method, target: target, headers: ["Host": place.description])
        for field in headers.fields { head.headers.add(field.name, field.value) }
        if !body.isEmpty || method != "GET" { head.headers["Content-Length"] = String(body.count) }
        if !keepsAlive { head.headers["Connection"] = "close" }
        head.encode(into: &output)
        output.append(body.span.bytes)
    }
}

/// What the hub answered.
package struct HubAnswer: Sendable {
    package let status: Int
    package let headers: HTTPHeaders
    package let body: [UInt8]

    package init(status: Int, headers: HTTPHeaders, body: [UInt8]) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// The hub's clock: seconds since 1970 UTC; nil when it sent no date.
    package var hubSeconds: Int64? { headers["Date"].flatMap(HTTPDate.parse) }
    /// The body as text; nil when it is not UTF-8.
    package var text: String? { String(validating: body, as: UTF8.self) }
}

/// Requests to one hub, each on a connection of its own, which is kept for the next one: a hub holds a request open for as long as a
/// device takes to answer, so requests never wait for one another.
package final class HubExchange {
    package typealias Answer = (Result<HubAnswer, DialError>, Reactor) -> Void

    let place: HostPort
    private let access: HubAccess
    private let bodyLimit: Int
    private var idle: [Exchanging] = []
    /// Connections kept when nothing is asked; and for how long, which is less than hubs wait.
    private let idleLimit: Int
    private static let idleMilliseconds = 20_000

    /// - Parameters:
    ///   - place: host and port; 443 when it names no port.
    ///   - bodyLimit: the longest body taken, in bytes.
    ///   - keeping: connections kept when nothing is asked.
    package init(with place: HostPort, through access: HubAccess, bodyLimit: Int = 16 << 20, keeping: Int = 4) {
        idleLimit = keeping
        self.place = place
        self.access = access
        self.bodyLimit = bodyLimit
    }

    /// Sends a request; the answer, or why there is none, comes later from the reactor's loop, exactly once unless cancelled.
    /// - Parameters:
    ///   - isRepeatable: whether doing it twice does no harm. A kept connection may have died unnoticed; such a request is then sent
    ///     once more on a fresh one, provided that not a byte of an answer had come.
    ///   - milliseconds: for the answer, once the hub is reached (30 s at most for that).
    @discardableResult
    package func send(
        _ request: HubRequest, isRepeatable: Bool = true, answerWithinMilliseconds milliseconds: Int = 60_000, on reactor: Reactor,
        _ answer: @escaping Answer
    ) -> HubExchangeTicket {
        let ticket = HubExchangeTicket(request, limit: bodyLimit, milliseconds: milliseconds, answer)
        if isRepeatable, let kept = idle.popLast() {
            ticket.connection = kept
            kept.ask(ticket, isFresh: false, on: reactor)
        } else {
            dial(for: ticket, mayBeSpare: isRepeatable, on: reactor)
        }
        return ticket
    }

    /// - Parameter mayBeSpare: doing the request twice does no harm.
    fileprivate func dial(for ticket: HubExchangeTicket, mayBeSpare: Bool, on reactor: Reactor) {
        ticket.dial = HubDial(to: place, through: access, spare: mayBeSpare ? .request : .none, on: reactor) { [self] result, reactor in
            let dial = ticket.dial.take()
            ticket.marks = dial?.marks
            switch consume result {
            case .failure(let error): ticket.finish(.failure(error), on: reactor)
            case .success(let channel):
                let connection = Exchanging(channel, of: self)
                ticket.connection = connection
                connection.start(on: reactor)
                connection.ask(ticket, isFresh: dial?.isSpare != true, on: reactor)
            }
        }
    }

    fileprivate func keep(_ connection: Exchanging, on reactor: Reactor) {
        guard idle.count < idleLimit, !reactor.isDraining else { return connection.finish(on: reactor) }
        idle.append(connection)
        reactor.setDeadline(of: connection, inMilliseconds: Self.idleMilliseconds)
    }

    /// Takes a connection from those that are kept; false when it is not one of them.
    fileprivate func take(_ connection: Exchanging) -> Bool {
        guard let index = idle.firstIndex(where: { $0 === connection }) else { return false }
        idle.remove(at: index)
        return true
    }

    fileprivate func forget(_ connection: Exchanging) { idle.removeAll { $0 === connection } }

    /// Closes the connections that are kept.
    package func closeIdle(on reactor: Reactor) { for connection in exchange(&idle, with: []) { connection.finish(on: reactor) } }

    /// One request, answered before this returns, on a reactor of its own on the calling thread.
    package static func perform(
        _ request: HubRequest, with place: HostPort, through access: HubAccess, answerWithinMilliseconds milliseconds: Int = 60_000
    ) throws(DialError) -> HubAnswer {
        var outcome = Result<HubAnswer, DialError>.failure(.system("the event loop ended early"))
        do throws(SystemError) {
            try Reactor.runHere { reactor in
                let exchange = HubExchange(with: place, through: access)
                exchange.send(request, answerWithinMilliseconds: milliseconds, on: reactor) { result, reactor in
                    outcome = result
                    reactor.stop()
                }
            }
        } catch {
            throw .system(error.description)
        }
        return try outcome.get()
    }
}

/// A request under way.
package final class HubExchangeTicket {
    fileprivate let request: HubRequest
    fileprivate let limit: Int
    fileprivate let milliseconds: Int
    private var answer: HubExchange.Answer?
    fileprivate var dial: HubDial?
    /// How the connection came to be, when it was made for this request.
    package fileprivate(set) var marks: HubDial.Marks?
    fileprivate weak var connection: Exchanging?
    /// Whether the hub was reached.
    package fileprivate(set) var isAsked = false
    /// What was said behind our close_notify, on whichever connection carries the request.
    fileprivate private(set) var parting: [UInt8]?
    /// When the hub's 101 was there, in nanoseconds of `Clock.nanoseconds`; leaving TLS comes then.
    package fileprivate(set) var agreedAt: UInt64?
    /// What the connection has become by a 101.
    private var socket: BareSocket?

    fileprivate init(_ request: HubRequest, limit: Int, milliseconds: Int, _ answer: @escaping HubExchange.Answer) {
        self.request = request
        self.limit = limit
        self.milliseconds = milliseconds
        self.answer = answer
    }

    fileprivate var isWaiting: Bool { answer != nil }

    /// Gives the connection over which the answer has come to somebody who needs one to the same place; false when it is not kept.
    func giveConnection(to dial: HubDial, at place: HostPort, on reactor: Reactor) -> Bool {
        guard let connection, answer == nil else { return false }
        return connection.give(to: dial, at: place, on: reactor)
    }

    /// Whether the request asks for its connection to leave TLS with the answer.
    fileprivate var mayUpgrade: Bool { BlindHandshake.isAsked(in: HTTPRequestHead(method: "", target: "", headers: request.headers)) }

    /// Leaves TLS behind a request that asks for it, before it is known whether the hub agrees; no other request follows on its connection.
    /// - Parameter first: what our direction begins with outside of TLS. It is said again when the connection turns out to have been dead.
    package func leave(saying first: [UInt8], on reactor: Reactor) {
        guard mayUpgrade, isWaiting, parting == nil else { return }
        parting = first
        connection?.part(from: self, on: reactor)
    }

    /// Whether what `leave` was given has been said.
    package var hasLeft: Bool { parting != nil }

    /// The socket of a request that was answered with a 101, once. Both sides have left TLS.
    package func takeSocket() -> BareSocket? { socket.take() }

    fileprivate func upgraded(_ socket: consuming BareSocket, _ answer: HubAnswer, on reactor: Reactor) {
        guard isWaiting else { return }
        self.socket = consume socket
        finish(.success(answer), on: reactor)
    }

    /// Gives up without an answer and drops the connection, by which the hub knows.
    package func cancel(on reactor: Reactor) {
        answer = nil
        dial.take()?.cancel(on: reactor)
        connection?.abort(on: reactor)
    }

    fileprivate func finish(_ result: Result<HubAnswer, DialError>, on reactor: Reactor) { answer.take()?(result, reactor) }
}

/// One connection to the hub, with at most one request on it.
private final class Exchanging: Connection {
    private let exchange: HubExchange
    private let place: String
    private var ticket: HubExchangeTicket?
    private var isFresh = true
    private var head: HTTPResponseHead?
    private var decoder: HTTPBodyDecoder?
    private var body = ByteQueue()
    private var hasAnswerBegun = false
    private var failure: DialError?
    private var taker: HubDial?
    /// The 101, while TLS is being left.
    private var upgrade: HubAnswer?
    /// A go-between that does not know what to make of a close_notify behind a request may say nothing at all; a hub says something.
    private static let upgradeMilliseconds = 5000

    init(_ channel: consuming Channel, of exchange: HubExchange) {
        self.exchange = exchange
        place = exchange.place.description
        super.init(channel)
    }

    func ask(_ ticket: HubExchangeTicket, isFresh: Bool, on reactor: Reactor) {
        guard !hasEnded else { return exchange.dial(for: ticket, mayBeSpare: false, on: reactor) }
        self.ticket = ticket
        self.isFresh = isFresh
        ticket.isAsked = true
        (head, decoder, hasAnswerBegun) = (nil, nil, false)
        reactor.setDeadline(of: self, inMilliseconds: min(ticket.milliseconds, ticket.mayUpgrade ? Self.upgradeMilliseconds : .max))
        send(on: reactor) { ticket.request.write(to: exchange.place, keepsAlive: true, into: &$0) }
        part(from: ticket, on: reactor)
    }

    /// Leaves TLS if that is wished for by now.
    func part(from ticket: HubExchangeTicket, on reactor: Reactor) {
        guard self.ticket === ticket, upgrade == nil, let parting = ticket.parting else { return }
        leave(saying: parting, on: reactor)
    }

    func give(to dial: HubDial, at place: HostPort, on reactor: Reactor) -> Bool {
        let own = HostPort(host: exchange.place.host, port: exchange.place.port ?? 443)
        guard !hasEnded, own == place, exchange.take(self) else { return false }
        taker = dial
        reactor.setDeadline(of: self, inMilliseconds: nil)
        handOn(on: reactor)
        return true
    }

    override func handedOn(_ channel: consuming Channel, on reactor: Reactor) { taker.take()?.spared(channel, isFresh: false, on: reactor) }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        guard let ticket else { throw DialError.malformed(place: place, reason: "spoke without being asked") }
        hasAnswerBegun = true
        var used = 0
        var agreement: HTTPResponseHead?
        do throws(HTTPError) {
            while head == nil {
                let rest = bytes.extracting(used..<bytes.byteCount)
                guard case .complete(let value, let consumed) = try HTTPResponseHead.parse(rest) else { return used }
                used += consumed
                if value.status == 101, ticket.mayUpgrade {
                    agreement = value
                    break
                }
                if 100..<200 ~= value.status, value.status != 101 {  // the real one follows
                    reactor.setDeadline(of: self, inMilliseconds: ticket.milliseconds)
                    continue
                }
                decoder = try .forResponse(value, toMethod: ticket.request.method, limit: ticket.limit)
                head = value
            }
            if agreement == nil { used += try decoder?.decode(bytes.extracting(used..<bytes.byteCount), into: &body).consumed ?? 0 }
        } catch {
            throw note(.malformed(place: place, reason: "does not answer as a hub: \(error)"))
        }
        if let agreement { try accept(agreement, &channel, on: reactor) }
        if decoder?.isFinished == true { complete(&channel, on: reactor) }
        return used
    }

    private func accept(_ head: HTTPResponseHead, _ channel: inout Channel, on reactor: Reactor) throws {
        guard (try? BlindHandshake.check(head)) != nil else { throw note(.malformed(place: place, reason: "answered the upgrade wrongly")) }
        ticket?.agreedAt = Clock.nanoseconds
        upgrade = HubAnswer(status: head.status, headers: head.headers, body: [])
        channel.bare()
        reactor.setDeadline(of: self, inMilliseconds: Self.upgradeMilliseconds)
    }

    override func bared(_ socket: consuming BareSocket, on reactor: Reactor) {
        guard let ticket = ticket.take(), let upgrade else { return }
        ticket.upgraded(socket, upgrade, on: reactor)
    }

    private func complete(_ channel: inout Channel, on reactor: Reactor) {
        guard let ticket = ticket.take(), let head else { return }
        let answer = HubAnswer(status: head.status, headers: head.headers, body: body.toArray())
        body = ByteQueue()
        if head.keepsAlive, head.status != 101, !ticket.hasLeft, !channel.hasInputEnded {
            exchange.keep(self, on: reactor)
        } else {
            channel.finish()
        }
        ticket.finish(.success(answer), on: reactor)
    }

    private func note(_ error: DialError) -> DialError {
        failure = error
        return error
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.finish()
        guard ticket != nil else { return }
        do throws(HTTPError) {
            guard head != nil else { throw HTTPError.truncatedBody }
            try decoder?.endOfInput()
        } catch {
            throw note(.cut(place: place, reason: "hung up before the answer was complete", answerBegun: hasAnswerBegun))
        }
        complete(&channel, on: reactor)
    }

    override func expired(on reactor: Reactor) {
        if ticket != nil { failure = .timedOut(place: place) }
        abort(on: reactor)
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) {
        exchange.forget(self)
        taker.take()?.spareLost(on: reactor)
        guard let ticket = ticket.take(), ticket.isWaiting else { return }
        if !isFresh, !hasAnswerBegun,
            failure == nil
                || failure
                    == .cut(
                        place: place, reason: "hung up before the answer was complete", answerBegun: false)
        {
            return exchange.dial(for: ticket, mayBeSpare: false, on: reactor)
        }
        let text = if case .failed(let error) = reason { "\(error)" } else { "the connection ended" }
        ticket.finish(.failure(failure ?? .cut(place: place, reason: text, answerBegun: hasAnswerBegun)), on: reactor)
    }

    /// Nobody waits for a connection that is only kept; an answer that somebody waits for may still come.
    override func drain(on reactor: Reactor) { if ticket == nil { finish(on: reactor) } }
}
