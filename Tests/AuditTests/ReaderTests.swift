import Audit
import Bytes
import Glibc
import LinuxIO
import Testing
import Wire

@Suite struct ReaderTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func followsFromOneFileToTheNext() throws {
        let reader = AuditReader(at: place.path, from: .latest)
        #expect(try reader.readAll().events.isEmpty)
        var options = AuditOptions()
        options.fileBytes = 300
        var appender = AuditAppender(at: place.path, options)
        for number in 0..<50 {
            _ = appender.append(connect("d\(number)").line, now: moment(Int64(number)))
            #expect(try reader.readAll().events.map(\.actor) == ["device:d\(number)"])
        }
        let place = try #require(reader.position), again = try #require(AuditPosition(place.text))
        #expect(again == place)
        _ = appender.append(connect("more").line, now: moment(86_400))
        #expect(try AuditReader(at: self.place.path, from: .position(again)).readAll().events.map(\.actor) == ["device:more"])
    }

    @Test func startsWithWhatComesAndWithADay() throws {
        try AuditLog.append(connect("old"), at: place.path, by: "command")
        let latest = AuditReader(at: place.path, from: .latest), none = AuditReader(at: place.path, from: .time(moment(86_400)))
        #expect(try latest.readAll().events.isEmpty && none.readAll().events.isEmpty)
        try AuditLog.append(connect("new"), at: place.path, by: "command")
        #expect(try latest.readAll().events.map(\.actor) == ["device:new"])
        #expect(try none.readAll().events.isEmpty)
        try AuditLog.append(connect("tomorrow", at: 86_400), at: place.path, by: "command")
        #expect(try none.readAll().events.map(\.actor) == ["device:tomorrow"])
    }

    @Test func passesOverWhatIsNoEvent() throws {
        try Files.makeDirectory(place.path)
        var bytes = connect("a").line + Array("not json\n\n\u{1b}[2J\n".utf8)
        bytes += [UInt8](repeating: UInt8(ascii: "x"), count: 200_000) + [10] + connect("b").line + Array("{\"time\":".utf8)
        try Files.create("\(place.path)/2026-11-20-0001.jsonl", with: bytes, mode: 0o600)
        try Files.create("\(place.path)/notes.txt", with: [1], mode: 0o600)
        try Files.create("\(place.path)/2026-13-40-0001.jsonl", with: [1], mode: 0o600)
        let reader = AuditReader(at: place.path, from: .earliest)
        let first = try reader.readAll()
        #expect(first.events.map(\.actor) == ["device:a", "device:b"] && first.damaged == 3)
        try Files.create("\(place.path)/2026-11-21-0001.jsonl", with: connect("c").line, mode: 0o600)
        let second = try reader.readAll()  // nobody will end the torn line now
        #expect(second.events.map(\.actor) == ["device:c"] && second.damaged == 1)
    }

    @Test func goesOnWhenFilesAreRemovedUnderIt() throws {
        var options = AuditOptions()
        options.fileBytes = 1
        var appender = AuditAppender(at: place.path, options)
        for number in 0..<5 { _ = appender.append(connect("d\(number)").line, now: moment()) }
        let reader = AuditReader(at: place.path, from: .earliest)
        #expect(try reader.read().events.map(\.actor) == ["device:d0"])
        for file in try place.files().prefix(3) { Files.remove("\(place.path)/\(file)") }
        #expect(try reader.readAll().events.map(\.actor) == ["device:d3", "device:d4"])
    }

    @Test(arguments: ["", ":", "2026-11-21-0001", "2026-11-21-0001:-1", "2026-11-21-0000:1", "../../etc/passw:1", "2026-11-21-0001:1:2"])
    func takesNothingElseForAPosition(_ text: String) { #expect(AuditPosition(text) == nil) }
}
