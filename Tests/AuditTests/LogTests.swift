import Audit
import Bytes
import Glibc
import LinuxIO
import Testing
import Wire

@Suite struct LogTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func writesWhatItIsToldInOrder() throws {
        let log = try AuditLog(at: place.path, by: "hub")
        for number in 0..<1000 { log.record(connect("d\(number)", at: Int64(number))) }
        log.close()
        log.record(connect("late"))
        let (events, damaged) = try place.read()
        #expect(events.map(\.actor) == (0..<1000).map { "device:d\($0)" } && damaged == 0)
        #expect(events.allSatisfy { $0.service == "hub" })
    }

    @Test func isForItsOwnerAlone() throws {
        let log = try AuditLog(at: place.path, by: "hub")
        log.record(connect("d1"))
        log.close()
        #expect(try #require(Files.stamp(place.path)).mode & 0o777 == 0o700)
        let file = try #require(try place.files().first)
        #expect(try #require(Files.stamp("\(place.path)/\(file)")).mode & 0o777 == 0o600)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root")) func whatRootWritesIsTheHubsUsers() throws {
        chown(place.root, 1234, 1235)
        try AuditLog.append(connect("d1"), at: place.path, by: "command")
        for path in [place.path, "\(place.path)/\(try #require(try place.files().first))"] {
            var status = stat()
            #expect(stat(path, &status) == 0 && status.st_uid == 1234 && status.st_gid == 1235)
        }
    }

    @Test func beginsANewFileEachDayAndWhenOneIsFull() throws {
        var options = AuditOptions()
        options.fileBytes = 1000
        var appender = AuditAppender(at: place.path, options)
        var rotations = 0
        for number in 0..<20 { if appender.append(connect("d\(number)").line, now: moment()).hasRotated { rotations += 1 } }
        #expect(appender.append(connect("next").line, now: moment(86_400)).hasRotated)
        #expect(!appender.append(connect("clock set back").line, now: moment(0)).hasRotated)
        let files = try place.files()
        #expect(files.first == "2026-11-21-0001.jsonl" && files.last == "2026-11-22-0001.jsonl")
        #expect(files.count == rotations + 1 && rotations >= 3)
        let (events, damaged) = try place.read()
        #expect(events.map(\.actor) == (0..<20).map { "device:d\($0)" } + ["device:next", "device:clock set back"] && damaged == 0)
        let later = try place.read(.time(moment(86_400)))
        #expect(later.events.map(\.actor) == ["device:next", "device:clock set back"])
    }

    @Test func keepsNoMoreThanItIsTold() throws {
        var options = AuditOptions()
        options.fileBytes = 1
        var appender = AuditAppender(at: place.path, options)
        for day in 0..<10 { _ = appender.append(connect("d\(day)").line, now: moment(Int64(day) * 86_400)) }
        let now = moment(9 * 86_400)
        appender.prune(now: now)
        #expect(try place.files().count == 10)
        appender.options.days = 3
        appender.prune(now: now)
        #expect(try place.files() == ["2026-11-27", "2026-11-28", "2026-11-29", "2026-11-30"].map { "\($0)-0001.jsonl" })
        appender.options.totalBytes = connect("d9").line.count * 2
        appender.prune(now: now)
        #expect(try place.files() == ["2026-11-29-0001.jsonl", "2026-11-30-0001.jsonl"])
        appender.options.totalBytes = 0
        appender.options.days = 0
        appender.prune(now: moment(90 * 86_400))
        #expect(try place.files() == ["2026-11-30-0001.jsonl"])
    }

    @Test func closesOffALineThatACrashHasTorn() throws {
        try AuditLog.append(connect("whole"), at: place.path, by: "command")
        let file = "\(place.path)/\(try #require(try place.files().first))"
        for cut in [1, 40, 100] {
            let torn = open(file, O_WRONLY | O_APPEND)
            _ = connect("torn").line.withUnsafeBytes { write(torn, $0.baseAddress, cut) }
            close(torn)
            try AuditLog.append(connect("after \(cut)"), at: place.path, by: "command")
        }
        let (events, damaged) = try place.read()
        #expect(events.map(\.actor) == ["device:whole", "device:after 1", "device:after 40", "device:after 100"])
        #expect(damaged == 3)
    }

    @Test func manyProcessesWorthOfWritersDoNotMixTheirLines() throws {
        var options = AuditOptions()
        options.fileBytes = 20_000
        let logs = try (0..<4).map { try AuditLog(at: place.path, by: "writer\($0)", options) }
        for number in 0..<500 { for log in logs { log.record(connect("d\(number)")) } }
        for log in logs { log.close() }
        let (events, damaged) = try place.read()
        #expect(events.count == 2000 && damaged == 0)
        for writer in 0..<4 {
            #expect(events.filter { $0.service == "writer\(writer)" }.map(\.actor) == (0..<500).map { "device:d\($0)" })
        }
        #expect(try place.files().count > 1)
    }

    @Test func countsWhatItCouldNotKeep() throws {
        var options = AuditOptions()
        options.queued = 10
        let log = try AuditLog(at: place.path, by: "hub", options)
        for number in 0..<20_000 { log.record(connect("d\(number)")) }
        log.close()
        let events = try place.read().events
        let lost = events.filter { $0.kind == .service && $0.action == "audit-lost" }.reduce(0) { $0 + $1.count }
        #expect(lost + events.count { $0.kind == .authentication } == 20_000)
        #expect(lost > 0)
    }

    @Test func aFloodOfRefusalsIsCountedBySourceAndReason() throws {
        let log = try AuditLog(at: place.path, by: "hub")
        for number in 0..<5000 {
            log.record(refused("wrong-signature", from: "10.0.0.1:\(number)"))
            if number % 100 == 0 { log.record(refused("expired-token", from: "10.0.0.2:1")) }
        }
        log.record(connect("good"))
        log.close()
        let events = try place.read().events
        let flood = events.filter { $0.host == "10.0.0.1" || $0.from == "10.0.0.1" }
        #expect((200...260).contains(flood.count { $0.count == 1 }) && flood.reduce(0) { $0 + $1.count } == 5000)
        let told = try #require(flood.max { $0.count < $1.count })
        #expect(told.outcome.code == "wrong-signature" && told.actor.isEmpty && told.from == "10.0.0.1")
        #expect(events.count { $0.from == "10.0.0.2:1" } == 50)  // others are not affected
        #expect(events.contains { $0.actor == "device:good" })
    }

    @Test func aFloodFromManyAddressesIsBounded() throws {
        let log = try AuditLog(at: place.path, by: "hub")
        for number in 0..<20_000 { log.record(refused("wrong-signature", from: "10.1.\(number / 250).\(number % 250):1")) }
        log.close()
        let events = try place.read().events
        #expect(events.reduce(0) { $0 + $1.count } == 20_000)
        #expect(events.count < 15_000)
    }

    private func refused(_ code: String, from: String) -> AuditEvent {
        AuditEvent(.authentication, "connect", .refused(code), actor: "device:d", from: from, protocol: "mqtt")
    }
}
