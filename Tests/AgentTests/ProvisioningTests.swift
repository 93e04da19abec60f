import LinuxIO
import Testing
import Wire

@testable import Agent

@Suite struct RegistrationAnswerTests {
    private func answer(_ status: Int, _ text: String) -> RegistrationAnswer { RegistrationAnswer(status: status, body: Array(text.utf8)) }

    @Test(arguments: [
        (202, #"{"operationId":"4.0a.b-c","status":"assigning"}"#, RegistrationAnswer.working(operation: "4.0a.b-c")),
        (200, #"{"operationId":"4.0a","status":"unassigned","registrationState":{}}"#, .working(operation: "4.0a")),
        (
            200, #"{"operationId":"4","status":"assigned","registrationState":{"assignedHub":"h.example","deviceId":"d"}}"#,
            .assigned(hub: HostPort(host: "h.example", port: nil), deviceID: "d")
        ),
        (
            202, #"{"registrationState":{"status":"assigned","assignedHub":"h.example:8443","deviceId":"d"}}"#,
            .assigned(hub: HostPort(host: "h.example", port: 8443), deviceID: "d")
        ),
        (200, #"{"status":"disabled"}"#, .refused("the provisioning service has disabled this device")),
        (
            200, #"{"status":"failed","registrationState":{"errorCode":400207,"errorMessage":"no hub"}}"#,
            .refused("the provisioning service could not place this device: no hub (400207)")
        ),
        (200, #"{"status":"failed"}"#, .refused("the provisioning service could not place this device: no reason given")),
        (404, "", .refused("the provisioning service answered 404 Not Found")),
        (429, #"{"message":"slow"}"#, .busy("the provisioning service answered 429 Too Many Requests")),
        (503, "<html>", .busy("the provisioning service answered 503 Service Unavailable")),
        (200, "", .busy("the provisioning service's answer cannot be understood")),
        (200, #"{"status":7}"#, .busy("the provisioning service's answer cannot be understood")),
        (200, #"{"status":"assigning","operationId":""}"#, .busy("the provisioning service gave no name for the operation")),
    ])
    func eachAnswerHasOneMeaning(status: Int, text: String, meaning: RegistrationAnswer) {
        #expect(answer(status, text) == meaning)
    }

    @Test(arguments: ["not a host", "h/x", "", "h:0", "h:65536", "http://h"])
    func nothingIsAssignedToWhatIsNoHost(_ host: String) {
        let text = #"{"status":"assigned","registrationState":{"assignedHub":"\#(host)","deviceId":"d"}}"#
        #expect(answer(200, text) == .refused("the provisioning service assigned something that is no host name"))
    }

    @Test func wordsOfTheServiceAreCut() {
        guard case .refused(let text) = answer(401, #"{"message":"\#(String(repeating: "x", count: 5000))"}"#) else {
            Issue.record("not refused")
            return
        }
        #expect(text.utf8.count < 400)
    }

    @Test(arguments: [("3", 3), ("0", 0), ("-5", 0), ("99999999", 3600), ("soon", nil), ("", nil), ("99999999999999999999", nil)])
    func pausesHaveBounds(_ text: String, seconds: Int?) {
        #expect(RegistrationAnswer.retryAfter(HTTPHeaders([("retry-after", text)])) == seconds)
    }
}

@Suite struct AssignmentTests {
    private let name = RegistrationName(endpoint: HostPort(host: "dps.example", port: 8443), scope: "0ne1", id: "press-17")

    @Test(arguments: [nil, "AB12"])
    func whatIsWrittenIsRead(thumbprint: String?) {
        let made = Assignment(name, hub: HostPort(host: "h.example", port: 444), deviceID: "d'1", thumbprint: thumbprint)
        #expect(Assignment(bytes: made.bytes, of: name) == made)
        var other = name
        other.id = "press-18"
        #expect(Assignment(bytes: made.bytes, of: other) == nil)
    }

    @Test func everyDamageIsNone() {
        let made = Assignment(name, hub: HostPort(host: "h.example", port: nil), deviceID: "d", thumbprint: nil)
        for end in 0..<(made.bytes.count - 2) { #expect(Assignment(bytes: Array(made.bytes[..<end]), of: name) == nil) }
    }
}

@Suite struct ProvisioningPaceTests {
    @Test func aRefusalIsAskedAboutAtOnceAndThenEverMoreSeldom() {
        var pace = ProvisioningPace(), now: UInt64 = 1000
        var pauses: [UInt64] = []
        var last = now
        for _ in 0..<10 {
            while pace.failed(isRefusal: true, at: now, jitter: 0.5) == nil { now += 1000 }
            pauses.append(now - last)
            last = now
            now += 1000
        }
        #expect(pauses == [0, 15000, 30000, 60000, 120_000, 240_000, 480_000, 600_000, 600_000, 600_000])
        pace.taken()
        #expect(pace.failed(isRefusal: true, at: now, jitter: 0.5) == 500)
    }

    @Test func anOutageIsWaitedOutForFiveMinutes() {
        var pace = ProvisioningPace()
        for second in 0..<300 { #expect(pace.failed(isRefusal: false, at: UInt64(second) * 1000, jitter: 0) == nil) }
        #expect(pace.failed(isRefusal: false, at: 300_000, jitter: 0) == 0)
        #expect(pace.failed(isRefusal: false, at: 310_000, jitter: 0) == nil)
        #expect(pace.failed(isRefusal: false, at: 315_000, jitter: 1) == 1000)
    }
}
