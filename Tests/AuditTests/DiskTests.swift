import Audit
import Bytes
import Glibc
import LinuxIO
import Testing
import Wire

/// A file system of a megabyte, seen by the calling thread and its threads alone. Root only; for a child of the tests.
private struct SmallDisk {
    let path: String

    private typealias Unshare = @convention(c) (CInt) -> CInt
    private typealias Mount =
        @convention(c) (UnsafePointer<CChar>?, UnsafePointer<CChar>?, UnsafePointer<CChar>?, CUnsignedLong, UnsafePointer<CChar>?) -> CInt

    init(at path: String) throws {
        self.path = path
        guard let one = dlsym(nil, "unshare"), let two = dlsym(nil, "mount") else { throw SystemError("dlsym", ENOSYS) }
        let unshare = unsafeBitCast(one, to: Unshare.self), mount = unsafeBitCast(two, to: Mount.self)
        guard unshare(0x20000) == 0, mount(nil, "/", nil, 0x44000, nil) == 0, mount("none", path, "tmpfs", 0, "size=1m,mode=700") == 0
        else { throw SystemError("mount") }
    }

    func fill() {
        let file = open("\(path)/ballast", O_WRONLY | O_CREAT, 0o600)
        defer { close(file) }
        let bytes = [UInt8](repeating: 1, count: 4096)
        while write(file, bytes, bytes.count) > 0 {}
    }

    func makeRoom() { unlink("\(path)/ballast") }
}

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
