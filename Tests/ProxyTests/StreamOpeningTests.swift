import Bytes
import Connections
import Console
import Glibc
import LinuxIO
import Relay
import ServerDouble
import Synchronization
import Testing
import Wire

@testable import Proxy

@Suite(.serialized) struct StreamOpeningTests {
    private static let target = ClientIdentity(deviceID: "press-17").map { StreamTarget(client: $0, remote: "22") }

    private func settings(port: UInt16, _ more: [String: [String?]] = [:]) throws -> ServiceSettings {
        let values: [String: [String?]] = [
            "connection-string": [
                "HostName=localhost:\(port);SharedAccessKeyName=service;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
            ], "ca": [try Credentials.shared.get().rootPath], "identity": [try Credentials.shared.get().rootPath + ".identity"],
        ]
        return try ServiceSettings(Arguments(role: "forward", path: "forward", values: values.merging(more) { $1 }))
    }

    /// Opens one stream; nil when it opened.
    private func open(
        _ record: ServiceDouble.Record, mode: String = "auto", _ behaviour: ServiceDouble.Behaviour
    ) throws -> (failure: StreamFailure?, half: Bool?) {
        let server = try ServerDouble { _ in ServiceDouble(behaviour, record) }
        defer { server.stop() }
        let service = try HubService(try settings(port: server.port, ["mode": [mode]]), role: "forward"), target = try #require(Self.target)
        var outcome: (StreamFailure?, Bool?)?
        try Reactor.runHere { reactor in
            _ = StreamOpening(target, at: service, on: reactor) { result, reactor in
                switch consume result {
                case .success(let stream): outcome = (nil, stream.way == .halfClose)
                case .failure(let failure): outcome = (failure, nil)
                }
                reactor.stop()
            }
        }
        return try #require(outcome)
    }

    @Test func whatBreaksTheBlindSwitchIsGoneAround() throws {
        let record = ServiceDouble.Record()
        let outcome = try open(
            record,
            .init { head, number in
                if head.method == "GET" { return HTTPResponseHead(status: 501, headers: ["Content-Length": "0"]) }
                return ServiceDouble.accepted(head, chosen: number == 0 ? "blind" : "half-close")
            })
        #expect(outcome.failure == nil && outcome.half == true)
        let requests = record.requests.withLock { $0 }
        #expect(requests.map(\.method) == ["POST", "GET", "POST"])
        #expect(requests[1].headers["Upgrade"] == "iotstream-blind" && requests[1].headers["Authorization"] == "Bearer leg-token")
        #expect(requests[2].headers["iotstream-offer"] == "e2e, half-close")
    }

    @Test func blindModeTakesNothingElse() throws {
        for chosen in [nil, "half-close", "e2e", "carrier-pigeon"] {
            let record = ServiceDouble.Record()
            let outcome = try open(record, mode: "blind", .init { head, _ in ServiceDouble.accepted(head, chosen: chosen) })
            #expect(outcome.failure == .notBlind("the hub or the device's agent cannot do it"))
            #expect(record.requests.withLock { $0.map { $0.headers["iotstream-offer"] } } == ["blind"])
            #expect(record.upgrades.withLock { $0.isEmpty })
        }
        let record = ServiceDouble.Record()
        let outcome = try open(
            record, mode: "blind",
            .init { head, _ in
                head.method == "GET"
                    ? HTTPResponseHead(status: 501, headers: ["Content-Length": "0"]) : ServiceDouble.accepted(head, chosen: "blind")
            })
        guard case .notBlind = outcome.failure else {
            Issue.record("\(String(describing: outcome.failure))")
            return
        }
        #expect(record.requests.withLock { $0.count } == 2)
    }

    @Test(arguments: ["half-close", "blind", "carrier-pigeon", nil] as [String?]) func webSocketModeNeverOffersBlind(chosen: String?) throws
    {
        let record = ServiceDouble.Record()
        let outcome = try open(record, mode: "websocket", .init { head, _ in ServiceDouble.accepted(head, chosen: chosen) })
        #expect(outcome.failure == nil && outcome.half == (chosen == "half-close"))
        #expect(record.requests.withLock { $0.first?.headers["iotstream-offer"] } == "e2e, half-close")
    }

    @Test func asksAsTheHubExpects() throws {
        let record = ServiceDouble.Record()
        let outcome = try open(record, .init { head, _ in ServiceDouble.accepted(head) })
        #expect(outcome.failure == nil && outcome.half == true)
        let request = try #require(record.requests.withLock { $0.first })
        #expect(request.method == "POST" && request.target == "/twins/press-17/streams/22?api-version=2021-04-12")
        #expect(request.headers["Authorization"]?.hasPrefix("SharedAccessSignature sr=localhost&sig=") == true)
        #expect(request.headers["iothub-streaming-connect-timeout-in-seconds"] == "0")
        #expect(request.headers["iothub-streaming-response-timeout-in-seconds"] == "60")
        #expect(request.headers["iotstream-offer"] == "blind, e2e, half-close")
        #expect(request.headers["Content-Length"] == "0")
        let upgrade = try #require(record.upgrades.withLock { $0.first })
        #expect(upgrade.target == "/bridges/x" && upgrade.headers["Authorization"] == "Bearer leg-token")
        #expect(!upgrade.headers.contains("Sec-WebSocket-Protocol"))
    }

    @Test func withoutAChoiceItIsAPlainStream() throws {
        let outcome = try open(ServiceDouble.Record(), .init { head, _ in ServiceDouble.accepted(head, chosen: nil) })
        #expect(outcome.failure == nil && outcome.half == false)
    }

    @Test(
        arguments: [
            (["iothub-streaming-is-accepted": "False", "iotstream-reason": "port 22 is not allowed"], .rejected("port 22 is not allowed")),
            (["iothub-streaming-is-accepted": "False"], .rejected(nil)),
            ([:], .malformed("no verdict")),
            (["iothub-streaming-is-accepted": "True"], .malformed("no address for the stream")),
            (
                [
                    "iothub-streaming-is-accepted": "True", "iothub-streaming-url": "http://x/", "iothub-streaming-auth-token": "t",
                ], .malformed("no address for the stream")
            ),
        ] as [(HTTPHeaders, StreamFailure)])
    func anAnswerThatIsNoStream(_ headers: HTTPHeaders, _ expected: StreamFailure) throws {
        var headers = headers
        headers.add("Content-Length", "0")
        let answer = HTTPResponseHead(status: 200, headers: headers)
        #expect(try open(ServiceDouble.Record(), .init { _, _ in answer }).failure == expected)
    }

    @Test func aLegThatIsRefusedIsAFailure() throws {
        let outcome = try open(ServiceDouble.Record(), .init(answer: { head, _ in ServiceDouble.accepted(head) }, takesLeg: false))
        guard case .unreachable(.refused(_, status: 404))? = outcome.failure else {
            Issue.record("\(String(describing: outcome.failure))")
            return
        }
    }

    @Test func a401WithAnotherClockIsAskedAgainByThatClock() throws {
        let record = ServiceDouble.Record()
        let outcome = try open(
            record,
            .init { head, number in
                if number > 0 { return ServiceDouble.accepted(head) }
                return HTTPResponseHead(status: 401, headers: ["Content-Length": "0", "Date": "Sun, 06 Nov 2033 08:49:37 GMT"])
            })
        #expect(outcome.failure == nil)
        let second = try #require(record.requests.withLock { $0.last })
        let expiry = second.headers["Authorization"]?.split(separator: "&").first { $0.hasPrefix("se=") }.flatMap { Int64($0.dropFirst(3)) }
        #expect(try abs(#require(expiry) - (2_014_879_777 + 3600)) < 60)
        #expect(record.requests.withLock { $0.count } == 2)
    }

    @Test func a401IsNotAskedAgainForEver() throws {
        let record = ServiceDouble.Record()
        let outcome = try open(
            record,
            .init { _, number in
                HTTPResponseHead(status: 401, headers: ["Content-Length": "0", "Date": "Sun, 06 Nov 20\(40 + number % 50) 08:49:37 GMT"])
            })
        #expect(outcome.failure == .notPermitted)
        #expect(record.requests.withLock { $0.count } == 2)
    }

    @Test func aHubThatIsNotThereIsAFailureAtOnce() throws {
        let listener = try Listener.open(at: try #require(SocketAddress(address: "127.0.0.1", port: 0)))
        let port = try #require(SocketAddress.local(of: listener.raw)?.port)
        _ = consume listener
        let service = try HubService(try settings(port: port), role: "forward"), target = try #require(Self.target)
        var failure: StreamFailure?
        try Reactor.runHere { reactor in
            _ = StreamOpening(target, at: service, on: reactor) { result, reactor in
                if case .failure(let why) = consume result { failure = why }
                reactor.stop()
            }
        }
        #expect(failure?.failure(of: "x").exitCode == EX_UNAVAILABLE)
    }

    /// From a client's socket through listener, request, leg and bridge to an echo, and back.
    @Test func forwardsALocalConnection() throws {
        let record = ServiceDouble.Record()
        let server = try ServerDouble { _ in ServiceDouble(.init { head, _ in ServiceDouble.accepted(head) }, record) }
        defer { server.stop() }
        let rig = try ForwardRig(try settings(port: server.port), try #require(Self.target))
        for round in 0..<3 {
            let client = try rig.client()
            #expect(send(client, "question", 8, 0) == 8)
            shutdown(client, CInt(SHUT_WR))
            #expect(rig.readAll(client) == Array("hello question".utf8), "round \(round)")
            close(client)
        }
        // The first request has left TLS for a leg that it is not to be. The others' connections become legs, and another one is then made
        // for the next request.
        #expect(record.requests.withLock { $0.count } == 3)
        #expect(4...5 ~= server.connectionCount)
        rig.stop()
    }

    @Test func aRefusalResetsTheLocalConnection() throws {
        let answer = HTTPResponseHead(status: 200, headers: ["Content-Length": "0", "iothub-streaming-is-accepted": "False"])
        let server = try ServerDouble { _ in ServiceDouble(.init { _, _ in answer }, ServiceDouble.Record()) }
        defer { server.stop() }
        let rig = try ForwardRig(try settings(port: server.port), try #require(Self.target))
        let client = try rig.client()
        var byte: UInt8 = 0
        #expect(recv(client, &byte, 1, 0) == -1 && errno == ECONNRESET)
        close(client)
        rig.stop()
    }

    @Test func aLocalClientThatGoesAwayTakesItsRequestWithIt() throws {
        let record = ServiceDouble.Record()
        let server = try ServerDouble { _ in ServiceDouble(.init { _, _ in nil }, record) }
        defer { server.stop() }
        let rig = try ForwardRig(try settings(port: server.port), try #require(Self.target))
        let client = try rig.client()
        for _ in 0..<500 where record.requests.withLock({ $0.isEmpty }) { usleep(10_000) }
        #expect(rig.count == 1)
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(client, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        close(client)
        var attempts = 0
        while rig.count > 0, attempts < 500 { attempts += 1 }  // each look waits a little
        #expect(rig.count == 0)
        rig.stop()
    }

    @Test func badSettingsAreToldBeforeAnythingStarts() throws {
        func failure(_ values: [String: [String?]]) -> CInt? {
            do throws(Failure) {
                _ = try ServiceSettings(Arguments(role: "forward", path: "forward", values: values))
                return nil
            } catch {
                return error.exitCode
            }
        }
        let key = "SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
        let good = "HostName=h;SharedAccessKeyName=p;\(key)"
        #expect(failure(["connection-string": ["nonsense"]]) == EX_CONFIG)
        #expect(failure(["connection-string": ["HostName=h;DeviceId=d;\(key)"]]) == EX_CONFIG)
        #expect(failure(["connection-string": ["HostName=h;SharedAccessKeyName=p"]]) == EX_CONFIG)
        #expect(failure(["connection-string": [good], "ca": ["/nonexistent"]]) == EX_NOINPUT)
        #expect(failure(["connection-string": [good], "wait": ["6m"]]) == EX_USAGE)
        #expect(failure(["connection-string": [good], "proxy": ["ftp://x"]]) == EX_USAGE)
        #expect(failure(["connection-string-file": ["/nonexistent"]]) == EX_NOINPUT)
    }
}

/// `Forwarding`'s listeners and connections on a reactor of their own, without its signals.
private final class ForwardRig: Sendable {
    private let mailbox: Mailbox, thread: LinuxIO.Thread
    private let port = Mutex<UInt16>(0)

    init(_ settings: ServiceSettings, _ target: StreamTarget) throws {
        (mailbox, thread) = try Reactor.start { _ in }
        mailbox.send { [self] reactor in
            let mapping = PortMapping(local: .any, remote: target.remote)
            guard let address = BindAddress("127.0.0.1"),
                let forwarding = try? Forwarding(
                    settings, client: target.client, mappings: [mapping], address: address, wantsJSON: false, reread: { settings })
            else { return }
            reactor.resident = forwarding
            if let place = try? forwarding.listen(mapping, target, on: reactor) { port.withLock { $0 = place.port } }
        }
        for _ in 0..<500 where port.withLock({ $0 }) == 0 { usleep(10_000) }
    }

    func stop() {
        mailbox.send { $0.stop() }
        thread.join()
    }

    /// Local connections that are not over.
    var count: Int {
        let answer = Counter()
        mailbox.send { reactor in answer.value.withLock { $0 = (reactor.resident as? Forwarding)?.connectionCount ?? -1 } }
        for _ in 0..<500 {
            if let value = answer.value.withLock({ $0 }) { return value }
            usleep(10_000)
        }
        return -1
    }

    private final class Counter: Sendable { let value = Mutex<Int?>(nil) }

    func client() throws -> CInt {
        let client = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let address = try #require(SocketAddress(address: "127.0.0.1", port: port.withLock { $0 }))
        try #require(address.withSockaddr { connect(client, $0, $1) } == 0)
        return client
    }

    func readAll(_ client: CInt) -> [UInt8] {
        var bytes: [UInt8] = [], chunk = [UInt8](repeating: 0, count: 4096)
        while case let count = recv(client, &chunk, chunk.count, 0), count > 0 { bytes += chunk[..<count] }
        return bytes
    }
}
