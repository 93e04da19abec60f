import Dialing
import LinuxIO
import ServerDouble
import Synchronization
import Testing
import Wire

@testable import Agent

/// Writes down what the session says, and ends the loop when the test has seen enough.
private final class Watcher: HubSessionOwner {
    enum Event: Equatable { case ready, unreachable(String), lost, requested(String) }

    private(set) var events: [Event] = []
    private let isEnough: ([Event]) -> Bool
    private var isOver = false
    var isAnswering = false

    init(until isEnough: @escaping ([Event]) -> Bool) { self.isEnough = isEnough }

    private func note(_ event: Event, on reactor: Reactor) {
        guard !isOver else { return }  // the loop's own end is no event
        events.append(event)
        isOver = isEnough(events)
        if isOver { reactor.stop() }
    }

    func ready(via place: HostPort, on reactor: Reactor) { note(.ready, on: reactor) }
    func unreachable(_ reason: String, isRefusal: Bool, on reactor: Reactor) { note(.unreachable(reason), on: reactor) }
    func requested(_ request: StreamRequest, over link: MQTTLink, on reactor: Reactor) { note(.requested(request.streamName), on: reactor) }
    func lost(_ link: MQTTLink, on reactor: Reactor) { note(.lost, on: reactor) }
}

@Suite struct HubSessionTests {
    private let connectionString =
        "DeviceId=dev1;SharedAccessKey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

    /// Runs a session against hubs that behave one after the other, the last one for ever, until the watcher has seen enough.
    private func run(
        _ behaviours: [HubDouble.Behaviour], lifetimeSeconds: Int = 3600, alternates: [HostPort] = [],
        until isEnough: @escaping ([Watcher.Event]) -> Bool
    ) throws -> (events: [Watcher.Event], packets: [MQTTPacket]) {
        final class Box: Sendable {
            let packets = Mutex<[MQTTPacket]>([])
        }
        let box = Box(), isBare = behaviours.first?.isBare == true
        let server = try ServerDouble { number in
            HubDouble(behaviours[min(number, behaviours.count - 1)]) { packet in box.packets.withLock { $0.append(packet) } }
        }
        defer { server.stop() }
        let connection = try ConnectionString(parsing: "HostName=localhost:\(server.port);\(connectionString)")
        let client = try #require(connection.client)
        let settings = HubSession.Settings(
            connection: connection, client: client, places: alternates + [connection.host],
            access: try HubAccess(authorityPath: Credentials.shared.get().rootPath), mqttPort: isBare ? server.port : nil,
            tokenLifetimeSeconds: lifetimeSeconds)
        let watcher = Watcher(until: isEnough)
        try Reactor.runHere { reactor in
            let session = HubSession(settings, owner: watcher, on: reactor)
            session.start(on: reactor)
            let limit = Timer(on: reactor) { _, reactor in
                withExtendedLifetime(session) { reactor.stop() }
            }
            limit.set(inMilliseconds: 40_000, on: reactor)
        }
        return (watcher.events, box.packets.withLock { $0 })
    }

    @Test(arguments: [false, true])
    func connectsAndSubscribesAsAClientOfStreams(isBare: Bool) throws {
        let (events, packets) = try run([.init(date: HTTPDate.text(Clock.unixSeconds), isBare: isBare)]) { $0.contains(.ready) }
        #expect(events == [.ready])
        guard case .connect(let connect)? = packets.first, case .subscribe(_, let subscriptions)? = packets.dropFirst().first else {
            Issue.record("CONNECT and SUBSCRIBE expected, got \(packets)")
            return
        }
        #expect(connect.clientID == "dev1")
        #expect(connect.userName == "localhost/dev1/?api-version=2021-04-12&DeviceClientType=iotstream%2F0.1.0")
        #expect(connect.cleanSession && connect.keepAliveSeconds == 11)
        #expect(subscriptions.map(\.filter) == ["$iothub/streams/POST/#", "$iothub/streams/res/#"])
        let token = try SASToken(parsing: String(decoding: try #require(connect.password), as: UTF8.self))
        #expect(token.covers(host: "localhost", path: "devices/dev1"))
        #expect(abs(token.expiry - Clock.unixSeconds - 3600) < 30)
    }

    @Test func signsForTheHubsTimeWhenItsOwnIsWrong() throws {
        let (_, packets) = try run([.init()]) { $0.contains(.ready) }
        guard case .connect(let connect)? = packets.first else {
            Issue.record("no CONNECT")
            return
        }
        let token = try SASToken(parsing: String(decoding: try #require(connect.password), as: UTF8.self))
        #expect(abs(token.expiry - 784_111_777 - 3600) < 30)
    }

    @Test func comesBackAfterALoss() throws {
        let (events, _) = try run([.init(cutsAfterSubscribe: true), .init()]) { $0.filter { $0 == .ready }.count == 2 }
        #expect(events.filter { $0 == .ready }.count == 2 && events.contains(.lost))
    }

    @Test(arguments: [MQTTConnectCode.notAuthorized, .identifierRejected, .badUserNameOrPassword, .unacceptableProtocolVersion])
    func saysSoAndGoesOnWhenRefused(code: MQTTConnectCode) throws {
        let (events, _) = try run([.init(code: code), .init()]) { !$0.isEmpty }
        guard case .unreachable(let reason)? = events.first else {
            Issue.record("not refused: \(events)")
            return
        }
        #expect(reason.contains("hub does not") && !reason.contains("Signature"))
    }

    @Test(arguments: [
        HubDouble.Behaviour(grants: false), HubDouble.Behaviour(garbage: [0xF0, 0x00]),
        HubDouble.Behaviour(garbage: [0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
        HubDouble.Behaviour(code: .serverUnavailable),
    ])
    func isNotReadyWithoutBothSubscriptions(behaviour: HubDouble.Behaviour) throws {
        let (events, _) = try run([behaviour]) { !$0.isEmpty }
        #expect(!events.contains(.ready) && events.count == 1)
    }

    @Test func noticesASilentHub() throws {
        let began = Clock.milliseconds
        let (events, packets) = try run([.init(isSilent: true)]) { $0.contains(.lost) }
        #expect(events.contains(.lost))
        #expect(Clock.milliseconds - began < 20_000)
        #expect(packets.contains(.pingreq))
    }

    @Test func triesTheOtherAddressesInTurn() throws {
        let (events, _) = try run([.init()], alternates: [HostPort(host: "127.0.0.1", port: 1)]) { $0.contains(.ready) }
        #expect(events.count == 2 && events.last == .ready)
    }

    @Test(arguments: [
        ("$iothub/streams/POST/22/?$rid=1&$url=wss%3A%2F%2Fh%3A443%2Fx&$auth=t", "22"),
        ("$iothub/streams/POST/a%20b/?$auth=t&$rid=1&$url=x", "a b"),
    ])
    func passesRequestsOn(topic: String, name: String) throws {
        let (events, _) = try run([.init(requestTopic: topic)]) { $0.contains(.requested(name)) }
        #expect(events == [.ready, .requested(name)])
    }
}
