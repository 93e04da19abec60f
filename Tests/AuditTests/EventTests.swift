import Audit
import Bytes
import Testing
import Wire

@Suite struct EventTests {
    @Test func isOneLineOfJSONWithStableNames() throws {
        var written = AuditEvent(
            .stream, "ended", .failed("device-gone", "it went away"), actor: "policy:operators", subject: "device:press-17",
            from: "[::1]:55000", protocol: "https", detail: JSONObject(), at: moment())
        written.service = "hub"
        written.count = 3
        written.detail["bytesToDevice"] = 9_007_199_254_740_993
        written.detail["endToEnd"] = true
        #expect(
            String(decoding: written.line, as: UTF8.self) == """
                {"time":"2026-11-21T08:00:00Z","service":"hub","event":"stream","action":"ended","outcome":"failed","code":"device-gone",\
                "reason":"it went away","actor":"policy:operators","subject":"device:press-17","from":"[::1]:55000","protocol":"https",\
                "count":3,"detail":{"bytesToDevice":9007199254740993,"endToEnd":true}}

                """)
        #expect(event(of: written.line.dropLast()) == written)
    }

    @Test func leavesOutWhatSaysNothing() {
        let event = AuditEvent(.service, "started", at: moment())
        #expect(
            String(decoding: event.line, as: UTF8.self)
                == "{\"time\":\"2026-11-21T08:00:00Z\",\"event\":\"service\",\"action\":\"started\",\"outcome\":\"ok\"}\n")
    }

    @Test(arguments: [
        "a\nb", "\r\n{\"time\":\"2026-11-21T08:00:00Z\",\"event\":\"registry\",\"outcome\":\"ok\"}\n", "\u{1b}[2J\u{7}", "\u{9b}31m\u{85}",
        "\u{2028}\u{202e}gnp.exe", "\u{0}", "\"},\"outcome\":\"ok\"", String(repeating: "\u{1b}", count: 5000),
        String(repeating: "ä", count: 5000),
    ])
    func nobodyForgesALineOrMovesTheCursor(_ text: String) throws {
        var detail = JSONObject()
        detail[text] = .string(text)
        let written = AuditEvent(
            .authentication, text, .refused(text, text), actor: text, subject: text, from: text, protocol: text, detail: detail,
            at: moment())
        let line = written.line
        #expect(line.filter { $0 == 10 }.count == 1 && line.last == 10)
        #expect(line.dropLast().allSatisfy { $0 >= 0x20 && $0 != 0x7F })
        let shown = String(decoding: line.dropLast(), as: UTF8.self)
        let hasControls = shown.unicodeScalars.contains { (0x80..<0xA0).contains($0.value) || $0 == "\u{2028}" || $0 == "\u{202e}" }
        #expect(!hasControls)
        #expect(line.count < 5000)
        let again = try #require(event(of: line.dropLast()))
        #expect(again == written.bounded && again.outcome.name == "refused")
        #expect(again.bounded == again)
    }

    @Test func keepsFewDetailsAndNothingThatNests() {
        var event = AuditEvent(.registry, "x", at: moment())
        event.detail["nested"] = ["a": ["b": 1]]
        for number in 0..<100 { event.detail["k\(number)"] = .integer(Int64(number)) }
        #expect(event.bounded.detail.count == AuditEvent.mostDetails - 1)
        #expect(event.bounded.detail["nested"] == nil)
    }

    @Test(arguments: [
        "", "{}", "[]", "null", "{\"time\":\"yesterday\",\"event\":\"stream\",\"outcome\":\"ok\"}",
        "{\"time\":\"2026-11-21T08:00:00Z\",\"event\":\"stream\",\"outcome\":\"fine\"}",
        "{\"time\":\"2026-11-21T08:00:00Z\",\"outcome\":\"ok\"}",
        "{\"time\":\"2026-11-21T08:00:00Z\",\"event\":\"stream\",\"outcome\":\"ok\"", "\u{FEFF}{}",
    ])
    func takesNothingElseForAnEvent(_ line: String) { #expect(event(of: line.utf8) == nil) }

    @Test func passesOverMembersOfLaterReleases() throws {
        let line = "{\"time\":\"2026-11-21T08:00:00Z\",\"event\":\"eclipse\",\"outcome\":\"ok\",\"moon\":{\"phase\":[1]},\"count\":-4}"
        let read = try #require(event(of: line.utf8))
        #expect(read.kind.rawValue == "eclipse" && read.count == 1)
    }

    @Test func knowsWhichDeviceItConcerns() {
        #expect(connect("d1").concerns(device: "d1"))
        #expect(!connect("d1").concerns(device: "d"))
        #expect(!connect("d1").concerns(device: "d12"))
        let module = AuditEvent(.registry, "module-created", actor: "user:0", subject: "module:d1/m", at: moment())
        #expect(module.concerns(device: "d1") && !module.concerns(device: "d1/m") && !module.concerns(device: "d"))
        #expect(!AuditEvent(.registry, "policy-created", subject: "policy:d1", at: moment()).concerns(device: "d1"))
    }

    @Test func filters() {
        let event = connect("d1", .refused("expired-token"), from: "[2001:db8::1]:99", at: 10)
        func takes(_ change: (inout AuditFilter) -> Void) -> Bool {
            var filter = AuditFilter()
            change(&filter)
            return filter.takes(event)
        }
        #expect(takes { _ in })
        #expect(takes { $0.since = moment(10) } && !takes { $0.since = moment(11) })
        #expect(takes { $0.until = moment(11) } && !takes { $0.until = moment(10) })
        #expect(takes { $0.kind = .authentication } && !takes { $0.kind = .stream })
        #expect(takes { $0.outcome = "refused" } && !takes { $0.outcome = "ok" })
        #expect(takes { $0.device = "d1" } && !takes { $0.device = "d2" })
        #expect(takes { $0.from = "2001:db8::1" } && takes { $0.from = "[2001:db8::1]" } && !takes { $0.from = "2001:db8::2" })
    }
}
