import Bytes
import Connections
import LinuxIO
import ServerDouble
import Testing
import Wire

@testable import Dialing

/// Answers requests, or resets the connection at the first byte.
private final class Answering: Script {
    private let isDead: Bool
    init(isDead: Bool = false) { self.isDead = isDead }

    func received(_ bytes: RawSpan, _ reply: inout Reply) {
        reply.used = bytes.byteCount
        if isDead {
            reply.end = .reset
        } else if let parsed = try? HTTPRequestHead.parse(bytes), case .complete(let head, _) = parsed,
            let key = head.headers["Sec-WebSocket-Key"]
        {
            WebSocketHandshake.answer(to: WebSocketHandshake.Offer(key: key, subprotocols: []), subprotocol: nil).encode(
                into: &reply.output)
        } else {
            reply.output.append("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        }
    }
}

/// Runs steps on a reactor, each as soon as its condition holds; gives up after some seconds.
private final class Steps {
    private var steps: [(condition: () -> Bool, action: (Reactor) -> Void)] = []
    private(set) var isDone = false
    private var hasYielded = false

    /// The next step waits for the next turn of the clock.
    func yield() { hasYielded = true }

    func when(_ condition: @escaping () -> Bool, _ action: @escaping (Reactor) -> Void = { _ in }) { steps.append((condition, action)) }

    func run(_ setUp: (Reactor) -> Void) throws {
        try Reactor.runHere { reactor in
            setUp(reactor)
            var rounds = 0
            Timer(on: reactor) { [self] timer, reactor in
                rounds += 1
                hasYielded = false
                while !hasYielded, let step = steps.first, step.condition() {
                    steps.removeFirst()
                    step.action(reactor)
                }
                isDone = steps.isEmpty
                if isDone || rounds > 200 { return reactor.stop() }
                timer.set(inMilliseconds: 10, on: reactor)
            }.set(inMilliseconds: 0, on: reactor)
        }
        #expect(isDone, "\(steps.count) steps were not reached")
    }
}

@Suite struct SpareConnectionsTests {
    private func access() throws -> HubAccess { try HubAccess(authorityPath: Credentials.shared.get().rootPath) }

    @Test func aDialTakesOneAndAnotherTakesItsPlace() throws {
        let server = try ServerDouble { _ in Answering() }
        defer { server.stop() }
        let access = try access(), place = HostPort(host: "localhost", port: server.port), steps = Steps()
        var spares: SpareConnections?, dial: HubDial?, wasSpare = false
        steps.when({ spares?.count == 2 }) { reactor in
            #expect(server.connectionCount == 2)
            dial = HubDial(to: place, through: access, on: reactor) { result, reactor in
                if case .success = consume result { wasSpare = dial?.isSpare == true }
            }
        }
        steps.when({ wasSpare && spares?.count == 2 }) { reactor in
            #expect(server.connectionCount == 3)
            spares?.stop(on: reactor)
            #expect(spares?.count == 0)
        }
        try steps.run { spares = SpareConnections(2, to: place, through: access, on: $0) }
    }

    @Test func whatIsTakenOneByOneIsReplacedMeanwhile() throws {
        let server = try ServerDouble { _ in Answering() }
        defer { server.stop() }
        let access = try access(), place = HostPort(host: "localhost", port: server.port), steps = Steps()
        var spares: SpareConnections?
        steps.when { spares?.count == 10 }
        for taken in 0..<8 {
            steps.when({ spares?.count ?? 0 >= 10 - taken }) { reactor in
                // One at each turn of the clock, which is more often than they are made anew.
                HubDial(to: place, through: access, on: reactor) { _, _ in }
                steps.yield()
            }
        }
        steps.when({ true }) { _ in #expect(server.connectionCount > 10) }
        try steps.run { spares = SpareConnections(10, to: place, through: access, on: $0) }
    }

    @Test func aDialJoinsTheConnectionThatWasBegunForIt() throws {
        let server = try ServerDouble { _ in Answering() }
        defer { server.stop() }
        let access = try access(), place = HostPort(host: "localhost", port: server.port), steps = Steps()
        var spares: SpareConnections?, answers = 0
        steps.when({ answers == 2 }) { _ in #expect(server.connectionCount == 2) }
        try steps.run { reactor in
            spares = SpareConnections(0, to: place, through: access, on: reactor)
            spares?.expect(on: reactor)
            spares?.expect(on: reactor)
            for _ in 0..<2 {
                HubDial(to: place, through: access, on: reactor) { result, _ in if case .success = consume result { answers += 1 } }
            }
        }
    }

    @Test func aRequestSurvivesADeadOne() throws {
        let server = try ServerDouble { Answering(isDead: $0 == 0) }
        defer { server.stop() }
        let access = try access(), place = HostPort(host: "localhost", port: server.port), steps = Steps()
        let exchange = HubExchange(with: place, through: access)
        var spares: SpareConnections?, status = 0
        steps.when({ spares?.count == 1 }) { reactor in
            exchange.send(HubRequest("GET", "/"), on: reactor) { result, _ in status = (try? result.get())?.status ?? 1 }
        }
        steps.when({ status != 0 })
        try steps.run { spares = SpareConnections(1, to: place, through: access, on: $0) }
        #expect(status == 200)
    }

    @Test func aLegSurvivesADeadOneAndTheOthersGo() throws {
        let server = try ServerDouble { Answering(isDead: $0 < 2) }
        defer { server.stop() }
        let access = try access(), place = HostPort(host: "localhost", port: server.port), steps = Steps()
        let url = try #require(StreamURL(parsing: "wss://localhost:\(server.port)/x"))
        var spares: SpareConnections?, outcome: DialError??
        steps.when({ spares?.count == 2 }) { reactor in
            WebSocketUpgrade(to: url, through: access, on: reactor) { result, _ in
                switch consume result {
                case .success: outcome = .some(nil)
                case .failure(let error): outcome = error
                }
            }
        }
        steps.when({ outcome != nil && spares?.count == 2 })
        try steps.run { spares = SpareConnections(2, to: place, through: access, on: $0) }
        #expect(outcome == .some(nil))
        #expect(server.connectionCount == 5)
    }

    @Test func theyComeBackWithTheHub() throws {
        let first = try ServerDouble { _ in Answering() }
        let access = try access(), place = HostPort(host: "127.0.0.1", port: first.port), steps = Steps()
        var second: ServerDouble?, spares: SpareConnections?
        defer { second?.stop() }
        steps.when({ spares?.count == 3 }) { _ in first.stop() }
        steps.when({ spares?.count == 0 }) { _ in second = try? ServerDouble(port: first.port) { _ in Answering() } }
        steps.when({ spares?.count == 3 })
        try steps.run { spares = SpareConnections(3, to: place, through: access, on: $0) }
    }

    @Test func legsDecideWhereTheyGo() throws {
        let one = try ServerDouble { _ in Answering() }, two = try ServerDouble { _ in Answering() }
        defer {
            one.stop()
            two.stop()
        }
        let access = try access(), elsewhere = HostPort(host: "localhost", port: two.port), steps = Steps()
        var spares: SpareConnections?, answers = 0
        func dial(_ use: HubDial.SpareUse, on reactor: Reactor) {
            HubDial(to: elsewhere, through: access, spare: use, on: reactor) { _, _ in answers += 1 }
        }
        steps.when({ spares?.count == 1 }) { dial(.request, on: $0) }
        steps.when({ answers == 1 }) { reactor in
            #expect(spares?.count == 1)
            #expect(one.connectionCount == 1)
            dial(.leg, on: reactor)
        }
        steps.when({ answers == 2 && spares?.count == 1 }) { _ in #expect(two.connectionCount == 3) }
        try steps.run { spares = SpareConnections(1, to: HostPort(host: "localhost", port: one.port), through: access, on: $0) }
        #expect(one.connectionCount == 1)
    }

    @Test func nobodyIsTroubledWhileTheHubIsAway() throws {
        let server = try ServerDouble(isPlain: true) { _ in Answering() }
        server.stop()
        let access = try access(), place = HostPort(host: "127.0.0.1", port: server.port), steps = Steps()
        var spares: SpareConnections?, failure: DialError?
        steps.when({ spares != nil }) { reactor in
            HubDial(to: place, through: access, on: reactor) { result, _ in
                if case .failure(let error) = consume result { failure = error }
            }
        }
        steps.when({ failure != nil }) { reactor in spares?.stop(on: reactor) }
        try steps.run { spares = SpareConnections(4, to: place, through: access, on: $0) }
        #expect(failure == .unreachable(place: place.description, reason: "connection refused"))
    }
}
