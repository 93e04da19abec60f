import Streams
import Testing
import Wire

@Suite struct StreamSessionTests {
    private static let patience = StreamSession.Patience(connect: 5000, response: 10_000)

    /// A session in each state, at time 0.
    private static func session(_ state: StreamSession.State) -> StreamSession {
        var session = StreamSession(patience)
        _ = session.begin(isDeviceReady: state != .waiting, at: 0)
        if [.accepted, .running, .ended].contains(state) { _ = session.handle(.answered(isAccepted: true, reason: nil), at: 0) }
        if [.running, .ended].contains(state) {
            _ = session.handle(.legArrived(.device), at: 0)
            _ = session.handle(.legArrived(.service), at: 0)
        }
        if state == .ended { _ = session.handle(.legEnded(.device), at: 0) }
        return session
    }

    private typealias Row = (StreamSession.State, StreamSession.Event, UInt64, StreamSession.State, [StreamSession.Action])

    private static func over(_ end: StreamSession.End, _ verdict: StreamSession.Verdict? = nil) -> [StreamSession.Action] {
        (verdict.map { [.answer($0)] } ?? []) + [.closeLegs(end), .forget(end)]
    }

    private static let rows: [Row] = [
        (.waiting, .deviceReady, 1, .pending, [.sendRequest]),
        (.waiting, .tick, 4999, .waiting, []),
        (.waiting, .tick, 5000, .ended, over(.deviceNotOnline, .deviceNotOnline)),
        (.waiting, .requesterGone, 1, .ended, over(.requesterGone)),
        (.waiting, .answered(isAccepted: true, reason: nil), 1, .waiting, []),
        (.waiting, .legArrived(.device), 1, .waiting, []),
        (.waiting, .ordered(.closed), 1, .ended, over(.closed, .deviceNotOnline)),
        (.pending, .answered(isAccepted: true, reason: nil), 1, .accepted, [.answer(.accepted)]),
        (.pending, .answered(isAccepted: false, reason: "no"), 1, .ended, over(.rejected, .rejected(reason: "no"))),
        (.pending, .deviceLost, 1, .ended, over(.deviceGone, .deviceGone)),
        (.pending, .requesterGone, 1, .ended, over(.requesterGone)),
        (.pending, .tick, 9999, .pending, []),
        (.pending, .tick, 10_000, .ended, over(.noAnswer, .noAnswer)),
        (.pending, .legArrived(.device), 1, .pending, []),
        (.pending, .legArrived(.service), 1, .pending, []),
        (.pending, .deviceReady, 1, .pending, []),
        (.accepted, .answered(isAccepted: false, reason: nil), 1, .accepted, []),
        (.accepted, .deviceLost, 1, .accepted, []),
        (.accepted, .requesterGone, 1, .accepted, []),
        (.accepted, .tick, 59_999, .accepted, []),
        (.accepted, .tick, 60_000, .ended, over(.legMissing)),
        (.accepted, .legArrived(.service), 1, .accepted, []),
        (.accepted, .ordered(.deviceRefused), 1, .ended, over(.deviceRefused)),
        (.running, .deviceLost, 1, .running, []),
        (.running, .tick, 1_000_000_000, .running, []),
        (.running, .legEnded(.device), 1, .ended, over(.done)),
        (.running, .legEnded(.service), 1, .ended, over(.done)),
        (.running, .legArrived(.service), 1, .running, []),
        (.running, .ordered(.draining), 1, .ended, over(.draining)),
        (.ended, .deviceReady, 1, .ended, []),
        (.ended, .answered(isAccepted: true, reason: nil), 1, .ended, []),
        (.ended, .legArrived(.device), 1, .ended, []),
        (.ended, .ordered(.closed), 1, .ended, []),
    ]

    @Test func everyStateAnswersEveryEventAsTheTableSays() {
        for (state, event, time, next, actions) in Self.rows {
            var session = Self.session(state)
            #expect(session.state == state)
            #expect(session.handle(event, at: time) == actions, "\(state) \(event)")
            #expect(session.state == next, "\(state) \(event)")
        }
    }

    @Test func aDeviceThatIsThereIsAskedAtOnce() {
        var session = StreamSession(Self.patience)
        #expect(session.begin(isDeviceReady: true, at: 7) == [.sendRequest])
        #expect(session.deadline == 10_007)
    }

    @Test func withoutAConnectTimeoutTheDeviceMustBeThereNow() {
        var session = StreamSession(StreamSession.Patience(connect: 0, response: 1))
        #expect(session.begin(isDeviceReady: false, at: 0) == Self.over(.deviceNotOnline, .deviceNotOnline))
    }

    @Test func theDevicesLegMayComeBeforeItsAnswer() {
        var session = Self.session(.pending)
        #expect(session.admits(.device) == .open && session.admits(.service) == .closed)
        #expect(session.handle(.legArrived(.device), at: 1).isEmpty)
        #expect(session.admits(.device) == .used)
        #expect(session.handle(.answered(isAccepted: true, reason: nil), at: 2) == [.answer(.accepted)])
        #expect(session.handle(.legArrived(.service), at: 3) == [.join])
        #expect(session.state == .running && session.deadline == nil)
    }

    @Test(arguments: [[Leg.device, .service], [.service, .device]]) func legsJoinInEitherOrder(_ order: [Leg]) {
        var session = Self.session(.accepted)
        #expect(session.handle(.legArrived(order[0]), at: 1).isEmpty)
        #expect(session.handle(.legArrived(order[1]), at: 2) == [.join])
    }

    @Test func anEarlyLegThatHasGoneLeavesNothingToWaitFor() {
        var session = Self.session(.pending)
        _ = session.handle(.legArrived(.device), at: 1)
        _ = session.handle(.legEnded(.device), at: 2)
        #expect(session.admits(.device) == .used)
        #expect(session.handle(.answered(isAccepted: true, reason: nil), at: 3).last == .forget(.legMissing))
    }

    @Test func timeoutsAreNumbersOfSeconds() {
        func parse(_ connect: String?, _ response: String?) -> StreamSession.Patience? {
            var headers = HTTPHeaders()
            if let connect { headers.add(StreamTimeouts.connectHeader, connect) }
            if let response { headers.add(StreamTimeouts.responseHeader, response) }
            return StreamTimeouts.parse(headers)
        }
        #expect(parse(nil, nil) == StreamSession.Patience(connect: 0, response: 60_000))
        #expect(parse("30", "30.5") == StreamSession.Patience(connect: 30_000, response: 30_500))
        #expect(parse("9999", "1") == StreamSession.Patience(connect: 300_000, response: 1000))
        for bad in ["-1", "abc", "", "1e3", "0x10", "1,5", "nan", "inf", "1.2.3", String(repeating: "9", count: 40)] {
            #expect(parse(bad, nil) == nil, "\(bad)")
        }
    }

    @Test func aLegsPathIsReadBackWhateverTheIDsHold() throws {
        for (device, module) in [("dev1", nil), ("a%b+c#d?e@f!", nil), ("d", "m(1)'*"), ("sid", "r")] as [(String, String?)] {
            let client = try #require(ClientIdentity(deviceID: device, moduleID: module))
            for leg in [Leg.device, .service] {
                let stream = StreamIdentifier(home: 200)
                let path = LegPath.path(hub: "hub", client: client, stream: stream, leg: leg)
                let read = try #require(LegPath(path))
                #expect(read.stream == stream && read.leg == leg && read.stream.home == 200)
            }
        }
        for bad in [
            "", "/", "/bridges/", "/bridges/ih/h/d/x/sid/zz/r/device", "/bridges/ih/h/d/x/sid/\(String(repeating: "a", count: 32))/r/other",
        ] {
            #expect(LegPath(bad) == nil)
        }
    }

    @Test func tokensAreTheirOwnOnlyMatch() {
        let token = StreamToken(), other = StreamToken()
        #expect(token.matches(token.text) && !token.matches(other.text) && !token.matches("") && !token.matches(token.text + "A"))
        #expect(token.text.utf8.count == 32 && !token.text.contains("="))
        #expect(!"\(token)".contains(token.text.prefix(4)))
    }
}
