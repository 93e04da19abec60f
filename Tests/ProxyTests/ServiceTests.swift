import Console
import Dialing
import Testing
import Wire

@testable import Proxy

@Suite struct ServiceTests {
    private func connection() throws -> ConnectionString {
        try ConnectionString(
            parsing:
                "HostName=hub.example.net:8443;SharedAccessKeyName=service;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    }

    @Test func aTokenIsMadeForTheHostWithoutItsPort() throws {
        var token = ServiceToken(try connection())
        // device-streams 3.3 has this signature.
        let text = token.text(now: 1_893_456_000 - 3600)
        #expect(text.hasPrefix("SharedAccessSignature sr=hub.example.net&sig=JsaJO5gTLF8mah9LxN0bGUcqp1KDFGr998P4Kix6V8A%3D&se=1893456000"))
        #expect(text.hasSuffix("&skn=service"))
    }

    @Test func aTokenIsKeptUntilItsEndIsNear() throws {
        var token = ServiceToken(try connection())
        let first = token.text(now: 1_000_000)
        let second = token.text(now: 1_002_900), third = token.text(now: 1_003_100)
        #expect(second == first && third != first)
    }

    @Test func theHubsClockCounts() throws {
        var token = ServiceToken(try connection())
        func note(_ hubSeconds: Int64?, at now: Int64) -> Bool { token.note(hubSeconds: hubSeconds, now: now) }
        #expect(!note(nil, at: 1_000_000))
        #expect(!note(1_000_050, at: 1_000_000))
        #expect(note(2_000_000, at: 1_000_000))
        let text = token.text(now: 1_000_000)
        #expect(text.contains("se=2003600"))
        #expect(!note(2_000_001, at: 1_000_001))
        #expect(note(1_000_100, at: 1_000_100))  // somebody has set our clock
        #expect(token.offset == 0)
    }

    @Test func printsNoSecrets() throws {
        let token = ServiceToken(try connection())
        #expect(!"\(token)".contains("MDEy"))
    }

    @Test func theRequestNamesDeviceModuleAndStream() throws {
        let device = try #require(ClientIdentity(deviceID: "a+b#c"))
        #expect(
            StreamTarget(client: device, remote: "22").requestTarget == "/twins/a%2Bb%23c/streams/22?api-version=2021-04-12")
        let module = try #require(ClientIdentity(deviceID: "d", moduleID: "m%"))
        #expect(
            StreamTarget(client: module, remote: "web").requestTarget == "/twins/d/modules/m%25/streams/web?api-version=2021-04-12")
        #expect(StreamTarget(client: module, remote: "web").description == "d/m%:web")
    }

    private static func structured(_ code: Int, _ message: String) -> String {
        "{\"Message\":\"{\\\"errorCode\\\":\(code),\\\"message\\\":\\\"\(message)\\\"}\",\"ExceptionMessage\":\"\"}"
    }

    @Test(
        arguments: [
            (404, structured(404103, "not online"), "DeviceNotOnline", .offline, 1),
            (404, structured(404001, "Device unavailable"), "DeviceNotFound", .wentOffline, 1),
            (404, structured(404001, "Device x not registered"), "DeviceNotFound", .unknownDevice, 1),
            (404, "{\"Message\":\"ErrorCode:DeviceNotFound;x\"}", "DeviceNotFound", .unknownDevice, 1),
            (404, structured(404010, "x"), "ModuleNotFound", .unknownModule, 1),
            (403, structured(403012, "Device is disabled"), "DeviceDisabled", .disabled, 1),
            (401, "", nil, .notPermitted, 77),
            (429, "not json", "ThrottlingException", .tooMany, 75),
            (504, structured(504101, "x"), "GatewayTimeout", .noAnswer, 1),
            (500, "", nil, .refused(status: 500, nil), 1),
            (
                400, "{\"Message\":\"ErrorCode:ArgumentInvalid;bad\"}", "ArgumentInvalid",
                .refused(status: 400, "ErrorCode:ArgumentInvalid;bad"), 1
            ),
            (404, "{\"Message\":[1]}", nil, .refused(status: 404, nil), 1),
        ] as [(Int, String, String?, StreamFailure, CInt)])
    func everyRefusalHasItsWordsAndStatus(_ status: Int, _ body: String, _ name: String?, _ expected: StreamFailure, _ exitCode: CInt) {
        var headers = HTTPHeaders()
        if let name { headers.add("iothub-errorcode", name) }
        let failure = StreamFailure(HubAnswer(status: status, headers: headers, body: Array(body.utf8)))
        #expect(failure == expected)
        #expect(failure.failure(of: "d:22").exitCode == exitCode)
        #expect(failure.failure(of: "d:22").what.hasPrefix("d:22: "))
    }

    @Test func theHubOutOfReachIs69() {
        let failure = StreamFailure.unreachable(.unreachable(place: "hub:443", reason: "connection refused"))
        #expect(failure.failure(of: "d:22") == .unreachable("d:22: cannot reach hub:443: connection refused"))
    }

    @Test func theFirstComplaintIsShownAndItsRepetitionsAreCounted() {
        var complaints = Complaints()
        func line(_ text: String, at now: UInt64) -> String? { complaints.line(for: text, now: now) }
        #expect(line("a", at: 0) == "a")
        #expect(line("b", at: 1) == "b")
        #expect(line("a", at: 10) == nil)
        #expect(line("a", at: 4999) == nil)
        #expect(line("a", at: 5000) == "a (and 2 times before)")
        #expect(line("a", at: 20000) == "a")
    }
}
