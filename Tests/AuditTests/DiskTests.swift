import Audit
import Bytes
import Glibc
import LinuxIO
import SmallDisk
import Testing
import Wire

@Suite(.enabled(if: geteuid() == 0, "mounting needs root")) struct DiskTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func aFullDiskTearsNoNeighbourAndLosesNothingThatWasWritten() async {
        await #expect(processExitsWith: .success) { [root = place.root as String] in
            let disk = try SmallDisk(at: root)
            let path = root + "/audit"
            var appender = AuditAppender(at: path)
            #expect(appender.append(connect("first").line).failure == nil)
            disk.fill()
            var batch: [UInt8] = []
            for number in 0..<100 { batch += connect("d\(number)").line }
            let progress = appender.append(batch)
            #expect(progress.failure?.number == ENOSPC)
            let kept = batch[..<progress.written].count { $0 == 10 }
            #expect(kept < 100 && (progress.written == 0 || batch[progress.written - 1] == 10))
            disk.makeRoom()
            #expect(appender.append(Array(batch[progress.written...])).failure == nil)
            let (events, damaged) = try AuditReader(at: path, from: .earliest).readAll()
            #expect(events.map(\.actor) == ["device:first"] + (0..<100).map { "device:d\($0)" })
            #expect(damaged <= 1)
        }
    }

    @Test func theLogGoesOnWhenThereIsRoomAgain() async {
        await #expect(processExitsWith: .success) { [root = place.root as String] in
            let disk = try SmallDisk(at: root)
            let path = root + "/audit"
            var options = AuditOptions()
            options.queued = 100
            let log = try AuditLog(at: path, by: "hub", options)
            disk.fill()
            for number in 0..<200 { log.record(connect("d\(number)")) }  // does not wait
            disk.makeRoom()
            log.record(connect("after"))
            log.close()
            let events = try AuditReader(at: path, from: .earliest).readAll().events
            let lost = events.filter { $0.action == "audit-lost" }.reduce(0) { $0 + $1.count }
            #expect(events.count { $0.kind == .authentication } + lost == 201)
        }
    }
}
