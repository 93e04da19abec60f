import Bytes
import Glibc
import LinuxIO
import Synchronization
import Telemetry
import Testing

@Suite struct LogTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func readsBackInOrderWithNumbersPlacesAndTimes() throws {
        let now = Mutex<Int64>(1_700_000_000_000)
        let log = try place.open { $0.now = { now.withLock { $0 } } }
        let first = log.append((0..<100).map { "\($0)" })
        now.withLock { $0 -= 5000 }  // a clock that is set back
        log.append(["late"])
        now.withLock { $0 += 9000 }
        log.append(["later"])
        let records = try log.reader(of: 0, from: .earliest).readAll()
        #expect(records.map(\.text) == (0..<100).map { "\($0)" } + ["late", "later"])
        #expect(records.map(\.position.sequence) == Array(0..<102))
        #expect(try first.map { try $0.get() } == records.prefix(100).map(\.position))
        #expect(records.prefix(101).allSatisfy { $0.enqueuedMilliseconds == 1_700_000_000_000 })
        #expect(records.last?.enqueuedMilliseconds == 1_700_000_004_000)
        #expect(zip(records, records.dropFirst()).allSatisfy { $0.end == $1.position })
        let bounds = try log.bounds(of: 0)
        #expect(bounds.begin == .zero)
        #expect(bounds.end == records.last?.end)
        #expect(bounds.lastOffset == records.last?.position.offset)
        #expect(bounds.lastMilliseconds == 1_700_000_004_000)
        log.close()
        #expect(try place.readAll() == records)
    }

    @Test func goesOnWhereItWasAfterItWasClosed() throws {
        for round in 0..<5 {
            let log = try place.open()
            #expect(log.findings.allSatisfy { $0.isClean })
            log.append((0..<20).map { "\(round * 20 + $0)" })
            log.close()
        }
        let records = try place.readAll()
        #expect(records.map(\.text) == (0..<100).map { "\($0)" })
        #expect(records.map(\.position.sequence) == Array(0..<100))
        #expect(try place.segments().count == 1)
    }

    @Test func takesABundleAsItTakesItsMessagesOneByOne() throws {
        let log = try place.open()
        let envelope = TelemetryEnvelope(
            deviceID: "d1", moduleID: "m", authentication: .init(.module, .sas), system: [.init(.messageID, "7")],
            application: [.init("a", "b"), .init("alone", nil)])
        let template = try #require(TelemetryTemplate(envelope))
        var bundle = TelemetryBundle(of: "d1")
        var taken: [Bool] = []
        for body in [[], Array("x".utf8), Array("twelve bytes".utf8), [UInt8](repeating: 0, count: 1 << 20)] {
            taken.append(bundle.append(template, body: body.span.bytes))
        }
        #expect(taken == [true, true, true, false])
        let first = log.append(["before"])
        let positions = Mutex<[TelemetryPosition]>([]), done = Semaphore()
        for _ in 0..<2 {
            let verdict = log.submit(bundle) { result in
                if case .success(let position) = result { positions.withLock { $0.append(position) } }
                done.signal()
            }
            #expect(verdict == .accepted)
        }
        for _ in 0..<2 { done.wait() }
        log.append(["after"])
        let nothing = log.submit(TelemetryBundle(of: "d1")) { _ in done.signal() }
        #expect(nothing == .accepted)
        done.wait()
        let records = try log.reader(of: 0, from: .earliest).readAll()
        #expect(records.map(\.text) == ["before", "", "x", "twelve bytes", "", "x", "twelve bytes", "after"])
        #expect(records.map(\.position.sequence) == Array(0..<8))
        #expect(records[1...6].allSatisfy { $0.envelope == envelope })
        #expect(try first[0].get() == records[0].position)
        #expect(positions.withLock { $0 } == [records[1].position, records[4].position])
        #expect(try log.bounds(of: 0).lastOffset == records[7].position.offset)
        log.close()
        #expect(try place.readAll() == records)
    }

    @Test func keepsTheOrderOfEachDeviceInItsPartition() throws {
        let log = try place.open { $0.partitions = nil }
        #expect(log.directory.partitions == 4)
        let done = Semaphore()
        for number in 0..<50 {
            for device in 0..<20 {
                let text = "\(number)"
                #expect(
                    log.submit(TelemetryEnvelope(deviceID: "device-\(device)"), Array(text.utf8)) { _ in done.signal() }
                        == .accepted)
            }
        }
        for _ in 0..<1000 { done.wait() }
        var seen: [String: [String]] = [:]
        for partition in 0..<4 {
            for record in try log.reader(of: partition, from: .earliest).readAll() {
                #expect(log.directory.partition(of: record.envelope.deviceID) == partition)
                seen[record.envelope.deviceID, default: []].append(record.text)
            }
        }
        #expect(seen.count == 20)
        #expect(seen.values.allSatisfy { $0 == (0..<50).map { "\($0)" } })
        log.close()
    }

    @Test func rollsSegmentsAndReadsAcrossThem() throws {
        let log = try place.open { $0.segmentBytes = 1000 }
        log.appendEach((0..<200).map { "message \($0)" })
        let records = try log.reader(of: 0, from: .earliest).readAll()
        #expect(records.map(\.text) == (0..<200).map { "message \($0)" })
        #expect(try place.segments().count > 10)
        log.close()
        let again = try place.open { $0.segmentBytes = 1000 }
        #expect(again.findings.allSatisfy { $0.isClean })
        again.append(["more"])
        #expect(try place.readAll().map(\.text) == (0..<200).map { "message \($0)" } + ["more"])
        again.close()
    }

    @Test func findsEveryPlaceByOffsetNumberAndTime() throws {
        let now = Mutex<Int64>(1000)
        let log = try place.open {
            $0.segmentBytes = 200_000
            $0.now = { now.withLock { $0 } }
        }
        let filler = String(repeating: "f", count: 5000)
        for number in 0..<120 {
            now.withLock { $0 = 1000 + Int64(number / 3) * 10 }  // three of each time
            log.append(["\(number) \(filler)"])
        }
        let all = try place.readAll()
        #expect(all.count == 120)
        #expect(try place.segments().count >= 3)
        for (number, record) in all.enumerated() {
            func first(_ start: TelemetryStart) throws -> UInt64? {
                let inside = try log.reader(of: 0, from: start), outside = try TelemetryReader(log.directory, partition: 0, from: start)
                let record = try inside.read(records: 1).records.first
                #expect(try outside.read(records: 1).records.first == record)
                return record?.position.sequence
            }
            let next: UInt64? = number + 1 < all.count ? UInt64(number + 1) : nil
            let offset = record.position.offset, sequence = record.position.sequence
            #expect(try first(.position(record.position)) == sequence)
            #expect(try first(.offset(offset, inclusive: true)) == sequence)
            #expect(try first(.offset(offset, inclusive: false)) == next)
            #expect(try first(.offset(offset + 3, inclusive: true)) == next)
            #expect(try first(.sequence(sequence, inclusive: true)) == sequence)
            #expect(try first(.sequence(sequence, inclusive: false)) == next)
            let firstOfTime = UInt64(number / 3 * 3), laterTime: UInt64? = firstOfTime + 3 < 120 ? firstOfTime + 3 : nil
            #expect(try first(.time(record.enqueuedMilliseconds, inclusive: true)) == firstOfTime)
            #expect(try first(.time(record.enqueuedMilliseconds, inclusive: false)) == laterTime)
            #expect(try first(.time(record.enqueuedMilliseconds - 1, inclusive: true)) == firstOfTime)
        }
        for start: TelemetryStart in [
            .latest, .offset(1 << 60, inclusive: true), .sequence(120, inclusive: true), .sequence(.max, inclusive: false),
            .time(.max, inclusive: true),
        ] {
            let reader = try log.reader(of: 0, from: start)
            #expect(try reader.read().records.isEmpty)
            #expect(reader.position == all.last?.end)
        }
        for start: TelemetryStart in [.earliest, .offset(0, inclusive: true), .sequence(0, inclusive: true), .time(0, inclusive: false)] {
            #expect(try log.reader(of: 0, from: start).read(records: 1).records == [all[0]])
        }
        log.close()
    }

    @Test func boundsABatchByRecordsAndByBytes() throws {
        let log = try place.open()
        defer { log.close() }
        log.append((0..<50).map { "\($0) " + String(repeating: "x", count: 1000) })
        let reader = try log.reader(of: 0, from: .earliest)
        var batch = try reader.read(records: 7)
        #expect(batch.records.count == 7 && !batch.isAtEnd)
        batch = try reader.read(bytes: 5000)
        #expect(batch.records.count == 5 && !batch.isAtEnd)
        batch = try reader.read(bytes: 1)
        #expect(batch.records.count == 1)
        batch = try reader.read()
        #expect(batch.records.count == 37 && batch.isAtEnd)
        #expect(try reader.read() == TelemetryBatch(isAtEnd: true))
    }

    @Test func ringsSubscribersWhenMoreIsDurable() throws {
        let log = try place.open()
        defer { log.close() }
        let bell = Semaphore(), reader = try log.reader(of: 0, from: .latest)
        let subscription = try log.subscribe(to: 0) { bell.signal() }
        log.append(["one"])
        bell.wait()
        #expect(try reader.read().records.map(\.text) == ["one"])
        subscription.cancel()
        log.append(["two"])
        #expect(!bell.wait(milliseconds: 0))
        #expect(try reader.read().records.map(\.text) == ["two"])
    }

    @Test func ringsAReaderInAnotherProcess() throws {
        let log = try place.open()
        defer { log.close() }
        let directory = try LogDirectory(place.path)
        let watch = try ModificationWatch(directory), reader = try TelemetryReader(directory, partition: 0, from: .latest)
        #expect(!watch.wait(milliseconds: 0))
        log.append(["one"])
        #expect(watch.wait(milliseconds: 10_000))
        #expect(try reader.read().records.map(\.text) == ["one"])
        #expect(try reader.bounds() == log.bounds(of: 0))
    }

    @Test func servesNothingBeforeItIsDurable() throws {
        let isHeld = Semaphore(), goOn = Semaphore()
        let log = try place.open { options in
            options.disk.sync = { file in
                isHeld.signal()
                goOn.wait()
                return Disk.systemSync(file)
            }
        }
        let done = Semaphore()
        _ = log.submit(TelemetryEnvelope(deviceID: "d"), [1]) { _ in done.signal() }
        isHeld.wait()  // the new segment's header
        goOn.signal()
        isHeld.wait()  // the record is in the file
        #expect(try place.readAll().isEmpty)
        #expect(try log.reader(of: 0, from: .earliest).readAll().isEmpty)
        goOn.signal()
        done.wait()
        #expect(try place.readAll().count == 1)
        log.close()
    }

    @Test func tellsTheSenderWhenTooMuchWaitsAndWhenThereIsRoomAgain() throws {
        let isHeld = Semaphore(), goOn = Semaphore(), done = Semaphore()
        let holds = Mutex(true)
        let log = try place.open { options in
            options.pendingBytes = 1000
            options.disk.sync = { file in
                if holds.withLock({ $0 }) {
                    isHeld.signal()
                    goOn.wait()
                }
                return Disk.systemSync(file)
            }
        }
        let envelope = TelemetryEnvelope(deviceID: "d"), body = [UInt8](repeating: 1, count: 200)
        let first = log.submit(envelope, body) { _ in done.signal() }
        #expect(first == .accepted)
        isHeld.wait()
        var taken = 1
        while log.submit(envelope, body, completion: { _ in done.signal() }) == .accepted { taken += 1 }
        #expect(taken == 4)
        let room = Semaphore()
        log.whenRoom(for: "d") { room.signal() }
        #expect(!room.wait(milliseconds: 0))
        holds.withLock { $0 = false }
        goOn.signal()
        room.wait()
        #expect(log.submit(envelope, body) { _ in done.signal() } == .accepted)
        for _ in 0...taken { done.wait() }
        log.whenRoom(for: "d") { room.signal() }
        room.wait()
        log.close()
        #expect(log.submit(envelope, body) { _ in } == .refused(.closed))
        #expect(try place.readAll().count == taken + 1)
    }

    @Test func takesARecordThatIsLargerThanWhatMayWait() throws {
        let log = try place.open { $0.pendingBytes = 100 }
        #expect(log.append([String(repeating: "x", count: 10000)]).count == 1)
        log.close()
        #expect(try place.readAll().count == 1)
    }

    @Test func writesWhatWaitsBeforeItEnds() throws {
        let log = try place.open(), done = Mutex(0)
        for _ in 0..<1000 {
            _ = log.submit(TelemetryEnvelope(deviceID: "d"), [1]) { _ in done.withLock { $0 += 1 } }
        }
        log.close()
        #expect(done.withLock { $0 } == 1000)
        #expect(try place.readAll().count == 1000)
    }

    @Test func sharesACommitAmongThoseThatCameTogether() throws {
        let log = try place.open()
        log.append((0..<5000).map { "\($0)" })
        #expect(log.commits < 2500)
        log.close()
    }

    @Test func isOpenForWritingOnlyOnce() throws {
        let log = try place.open()
        #expect(throws: TelemetryError.alreadyOpen(path: place.path)) { try place.open() }
        log.close()
    }

    @Test func neverChangesTheNumberOfPartitionsSilently() throws {
        try place.open { $0.partitions = 3 }.close()
        #expect(throws: TelemetryError.partitionCount(path: place.path, stored: 3, wanted: 4)) { try place.open { $0.partitions = 4 } }
        let log = try place.open { $0.partitions = nil }
        #expect(log.directory.partitions == 3)
        #expect(throws: TelemetryError.noSuchPartition(3)) { try log.bounds(of: 3) }
        #expect(throws: TelemetryError.noSuchPartition(-1)) { try TelemetryReader(log.directory, partition: -1, from: .earliest) }
        log.close()
    }

    @Test(arguments: ["", "iotstream-telemetry 2\nlog 0\npartitions 4\n", "iotstream-telemetry 1\npartitions 4\n", "hello\n"])
    func refusesADirectoryThatIsNoLogOfThisRelease(_ format: String) throws {
        try place.open().close()
        write(Array(format.utf8), to: "\(place.path)/format")
        do throws(TelemetryError) {
            _ = try place.open()
            Issue.record("opened")
        } catch {
            guard case .notALog = error else { Issue.record("\(error)"); return }
        }
        unlink("\(place.path)/format")
        #expect(throws: TelemetryError.notALog(path: "\(place.path)/format", reason: "it is missing, and there are partitions")) {
            try place.open()
        }
        #expect(throws: TelemetryError.missing(path: place.path)) { try LogDirectory(place.path) }
    }

    @Test func tellsAReaderInAnotherProcessThatTheLogIsAnother() throws {
        let log = try place.open()
        log.append(["one"])
        let reader = try TelemetryReader(log.directory, partition: 0, from: .earliest)
        #expect(try reader.readAll().count == 1)
        log.close()
        poke("\(place.path)/0/mark", at: 60, [0xFF])
        #expect(throws: TelemetryError.noMark(path: "\(place.path)/0/mark")) { try reader.read() }
        try place.open().close()
        #expect(try reader.read().isAtEnd)
        for name in try Files.names(in: "\(place.path)/0") { unlink("\(place.path)/0/\(name)") }
        rmdir("\(place.path)/0")
        unlink("\(place.path)/format")
        try place.open().close()
        #expect(throws: TelemetryError.replaced(path: "\(place.path)/0")) { try reader.read() }
    }

    @Test func refusesANumberOfPartitionsThatNoLogHas() {
        for count in [0, -1, LogDirectory.mostPartitions + 1] {
            #expect(throws: TelemetryError.badPartitionCount(count)) { try place.open { $0.partitions = count } }
        }
    }
}
