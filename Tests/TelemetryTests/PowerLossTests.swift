import Glibc
import LinuxIO
import Synchronization
import Telemetry
import Testing

/// A disk that keeps beside each segment what a power cut would leave of it: all that was synced, and of what was written since then
/// any sectors.
private final class VolatileDisk: Sendable {
    private struct Write { let place: Int, bytes: [UInt8] }
    private struct Image {
        var synced: [UInt8] = []
        var writes: [Write] = []
        var size = 0
    }

    private let images = Mutex<[UInt64: Image]>([:])

    private static func inode(_ file: CInt) -> UInt64 {
        var status = stat()
        fstat(file, &status)
        return UInt64(status.st_ino)
    }

    var disk: Disk {
        Disk(
            write: { [self] file, bytes, place in
                let count = Disk.systemWrite(file, bytes, place)
                images.withLock {
                    $0[Self.inode(file), default: Image()].writes.append(Write(place: place, bytes: Array(bytes.prefix(count))))
                }
                return count
            },
            sync: { [self] file in
                let inode = Self.inode(file), size = Int(lseek(file, 0, SEEK_END))
                var bytes = [UInt8](repeating: 0, count: size)
                pread(file, &bytes, size, 0)
                images.withLock { $0[inode] = Image(synced: bytes) }
                return Disk.systemSync(file)
            })
    }

    /// What is left of a segment; nil for one that was never synced.
    func remains(of path: String, _ random: inout SystemRandomNumberGenerator) -> [UInt8]? {
        var status = stat()
        guard stat(path, &status) == 0, let image = images.withLock({ $0[UInt64(status.st_ino)] }) else { return nil }
        var bytes = image.synced
        for write in image.writes {
            for start in stride(from: 0, to: write.bytes.count, by: 512) where Bool.random(using: &random) {
                let part = write.bytes[start..<min(start + 512, write.bytes.count)], end = write.place + start + part.count
                if bytes.count < end { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
                bytes.replaceSubrange((write.place + start)..<end, with: part)
            }
        }
        return bytes
    }
}

@Suite struct PowerLossTests {
    @Test func losesNothingAcknowledgedWhenThePowerFails() throws {
        var random = SystemRandomNumberGenerator()
        let rounds = getenv("IOTSTREAM_CRASH_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 20
        for round in 0..<rounds {
            let place = try Place(), volatile = VolatileDisk()
            let isHeld = Semaphore(), goOn = Semaphore()
            let syncs = Mutex(Int.random(in: 2...40, using: &random))
            let log = try place.open { options in
                options.segmentBytes = 20_000
                options.disk = volatile.disk
                let sync = options.disk.sync
                options.disk.sync = { file in
                    // The power fails before this sync has done anything.
                    if syncs.withLock({ left in
                        left -= 1; return left == 0
                    }) {
                        isHeld.signal()
                        goOn.wait()
                    }
                    return sync(file)
                }
            }
            let acknowledged = Mutex(0), isOver = Mutex(false)
            @Sendable func send(_ number: Int) {
                if isOver.withLock({ $0 }) { return }
                let text = "\(number) " + String(repeating: "x", count: number * 37 % 1500)
                _ = log.submit(TelemetryEnvelope(deviceID: "d"), Array(text.utf8)) { _ in
                    acknowledged.withLock { $0 = number + 1 }
                    send(number + 5)
                }
            }
            for number in 0..<5 { send(number) }
            isHeld.wait()
            let least = acknowledged.withLock { $0 }
            let after = try Place()
            try Files.makeDirectory("\(after.path)/0")
            write(try contents("\(place.path)/format"), to: "\(after.path)/format")
            for path in try place.segments() {
                guard let bytes = volatile.remains(of: path, &random) else { continue }
                write(bytes, to: "\(after.path)/0/" + (path.split(separator: "/").last ?? ""))
            }
            if Bool.random(using: &random) { write(try contents("\(place.path)/0/mark"), to: "\(after.path)/0/mark") }
            isOver.withLock { $0 = true }
            goOn.signal()
            log.close()

            let again = try after.open()
            #expect(again.findings[0].damage.isEmpty, "round \(round): \(again.findings)")
            again.append(["end"])
            again.close()
            let numbers = try after.readAll().map { Int($0.text.split(separator: " ")[0]) ?? -1 }
            #expect(numbers.last == -1 && numbers.dropLast().elementsEqual(0..<(numbers.count - 1)), "round \(round): \(numbers)")
            #expect(numbers.count - 1 >= least, "round \(round): \(numbers.count - 1) of \(least)")
        }
    }
}
