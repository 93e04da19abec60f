import Bytes
import Glibc
import LinuxIO
import SmallDisk
import Synchronization
import Telemetry
import Testing

/// What a disk is to do with its next calls.
private final class Trouble: Sendable {
    enum Kind: Equatable { case writes(CInt), partOfWrites(CInt), syncs(CInt), syncsAndCuts(CInt) }

    private let kind = Mutex<Kind?>(nil)

    func set(_ kind: Kind?) { self.kind.withLock { $0 = kind } }

    var disk: Disk {
        Disk(
            write: { [self] file, bytes, place in
                switch kind.withLock({ $0 }) {
                case .writes(let error): -Int(error)
                case .partOfWrites(let error) where bytes.count < 40: -Int(error)
                case .partOfWrites: Disk.systemWrite(file, UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count * 2 / 3)]), place)
                default: Disk.systemWrite(file, bytes, place)
                }
            },
            sync: { [self] file in
                switch kind.withLock({ $0 }) {
                case .syncs(let error), .syncsAndCuts(let error): -error
                default: Disk.systemSync(file)
                }
            },
            truncate: { [self] file, size in
                if case .syncsAndCuts(let error) = kind.withLock({ $0 }) { return -error }
                return Disk.systemTruncate(file, size)
            })
    }
}

@Suite struct DiskTests {
    let place: Place

    init() throws { place = try Place() }

    private static let kinds: [Trouble.Kind] = [
        .writes(ENOSPC), .writes(EIO), .writes(EFBIG), .partOfWrites(ENOSPC), .partOfWrites(EIO), .syncs(EIO), .syncs(ENOSPC),
        .syncsAndCuts(EIO),
    ]

    @Test(arguments: kinds.indices, [UInt64(1 << 20), 1]) func tellsEverySenderAndGoesOnAfterwards(_ kind: Int, _ segmentBytes: UInt64)
        throws
    {
        let trouble = Trouble()
        func options(_ options: inout TelemetryLog.Options) {
            options.disk = trouble.disk
            options.segmentBytes = segmentBytes
        }
        let log = try place.open(options)
        var expected: [String] = []
        for round in 0..<4 {
            let good = (0..<10).map { "good \(round) \($0)" }
            #expect(log.append(good).allSatisfy { (try? $0.get()) != nil })
            expected += good
            trouble.set(Self.kinds[kind])
            for result in log.append((0..<10).map { "bad \(round) \($0)" }) {
                switch (Self.kinds[kind], result) {
                case (.writes(ENOSPC), .failure(.diskFull)), (.partOfWrites(ENOSPC), .failure(.diskFull)),
                    (.syncs(ENOSPC), .failure(.diskFull)):
                    break
                case (.writes(EIO), .failure(.failed)), (.writes(EFBIG), .failure(.failed)), (.partOfWrites(EIO), .failure(.failed)),
                    (.syncs(EIO), .failure(.failed)), (.syncsAndCuts, .failure(.failed)):
                    break
                default: Issue.record("\(Self.kinds[kind]): \(result)")
                }
            }
            // Readable meanwhile, here and elsewhere.
            #expect(try log.reader(of: 0, from: .earliest).readAll().map(\.text) == expected)
            #expect(try place.readAll().map(\.text) == expected)
            trouble.set(nil)
        }
        log.append(["end"])
        log.close()
        let records = try place.readAll()
        #expect(records.map(\.text) == expected + ["end"])
        #expect(records.map(\.position.sequence) == Array(0..<41))
        let again = try place.open(options)
        #expect(again.findings[0].damage.isEmpty && again.findings[0].tornBytes == 0)
        #expect(try again.reader(of: 0, from: .earliest).readAll() == records)
        again.close()
    }

    @Test func writesToANewSegmentAfterAFailedSync() throws {
        let trouble = Trouble(), log = try place.open { $0.disk = trouble.disk }
        log.append(["one"])
        trouble.set(.syncs(EIO))
        log.append(["two"])
        trouble.set(nil)
        #expect(try place.segments().count == 1)
        log.append(["three"])
        #expect(try place.segments().count == 2)
        #expect(try place.readAll().map(\.text) == ["one", "three"])
        log.close()
    }

    @Test func comesBackFromAFailureByTheSegmentThatItLeft() throws {
        // The process ends between a failed commit and the next good one.
        let trouble = Trouble(), log = try place.open { $0.disk = trouble.disk }
        log.append(["one"])
        trouble.set(.syncsAndCuts(EIO))
        log.append(["two"])
        log.close()
        let again = try place.open()
        again.append(["three"])
        again.close()
        let texts = try place.readAll().map(\.text)
        // "two" was refused but is whole in the file: it may have become durable, as the answer may have got lost.
        #expect(texts == ["one", "three"] || texts == ["one", "two", "three"])
    }

    @Test(.enabled(if: geteuid() == 0, "mounting needs root")) func survivesAFullFileSystem() async {
        await #expect(processExitsWith: .success) { [path = place.path as String] in
            let disk = try SmallDisk(at: path)
            let log = try TelemetryLog(at: path, Place.options { $0.segmentBytes = 100_000 })
            log.append(["first"])
            let text = String(repeating: "x", count: 3000)
            var stored = 1, isFull = false
            while !isFull {
                for result in log.append([text]) {
                    switch result {
                    case .success: stored += 1
                    case .failure(.diskFull): isFull = true
                    case .failure(let error): throw error
                    }
                }
            }
            #expect(stored > 100)
            #expect(try log.reader(of: 0, from: .earliest).readAll().count == stored)
            for _ in 0..<3 { #expect(throws: TelemetryError.self) { try log.append([text]).first?.get() } }
            log.close()

            // It can be opened on a full disk, too, and goes on when there is room.
            let again = try TelemetryLog(at: path, Place.options { $0.segmentBytes = 100_000 })
            #expect(again.findings[0].damage.isEmpty)
            #expect(throws: TelemetryError.self) { try again.append([text]).first?.get() }
            again.setRetention(TelemetryRetention(milliseconds: nil, bytes: 500_000))
            again.enforceRetention()
            for result in again.append(["last"]) { _ = try result.get() }
            #expect(try again.reader(of: 0, from: .earliest).readAll().last?.text == "last")
            again.close()
            _ = disk
        }
    }
}
