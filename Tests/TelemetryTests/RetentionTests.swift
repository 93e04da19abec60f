import Glibc
import LinuxIO
import Synchronization
import Telemetry
import Testing

@Suite struct RetentionTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func removesWholeSegmentsThatAreTooOldAndTellsReadersWhatTheyMissed() throws {
        let now = Mutex<Int64>(1_000_000)
        let log = try place.open {
            $0.segmentBytes = 1000
            $0.retention.milliseconds = nil
            $0.now = { now.withLock { $0 } }
        }
        let inside = try log.reader(of: 0, from: .earliest), outside = try TelemetryReader(log.directory, partition: 0, from: .earliest)
        for number in 0..<100 {
            now.withLock { $0 += 100 }
            log.append(["\(number) " + String(repeating: "x", count: 150)])
        }
        for reader in [inside, outside] { #expect(try reader.read(records: 3).records.count == 3) }
        log.setRetention(TelemetryRetention(milliseconds: 5000))
        log.enforceRetention()
        let bounds = try log.bounds(of: 0)
        #expect(50...59 ~= 100 - bounds.begin.sequence)
        #expect(try place.segments().count == place.indexes().count)
        for reader in [inside, outside] {
            #expect(try reader.bounds() == bounds)
            let batch = try reader.read()
            // A reader in the middle of a segment may go on in it although its name is gone.
            #expect(batch.records.first?.position == bounds.begin)
            #expect(batch.missed == bounds.begin.sequence - 3)
            #expect(batch.records.count == 100 - Int(bounds.begin.sequence))
        }
        #expect(try log.reader(of: 0, from: .sequence(10, inclusive: true)).read(records: 1).missed == bounds.begin.sequence - 10)
        #expect(try log.reader(of: 0, from: .earliest).read(records: 1).missed == 0)
        log.close()
    }

    @Test func removesEvenTheNewestRecordsWhenTheyAreTooOld() throws {
        let now = Mutex<Int64>(1_000_000)
        let log = try place.open {
            $0.retention.milliseconds = 5000
            $0.now = { now.withLock { $0 } }
        }
        log.append(["one", "two"])
        log.enforceRetention()
        #expect(try place.readAll().count == 2)
        now.withLock { $0 += 6000 }
        let generation = try log.bounds(of: 0).generation
        log.enforceRetention()  // ends the segment, on the writer's thread
        let started = Clock.milliseconds
        while try log.bounds(of: 0).generation == generation, Clock.milliseconds - started < 10_000 { sched_yield() }
        log.enforceRetention()
        #expect(try log.bounds(of: 0).isEmpty)
        #expect(try place.readAll().isEmpty)
        #expect(try log.append(["three"]).first?.get().sequence == 2)
        log.close()
        let again = try place.open()
        #expect(try again.reader(of: 0, from: .earliest).readAll().map(\.position.sequence) == [2])
        again.close()
    }

    @Test func endsSegmentsThatLastForAnEighthOfTheRetention() throws {
        let now = Mutex<Int64>(1_000_000)
        let log = try place.open {
            $0.retention.milliseconds = 8000
            $0.now = { now.withLock { $0 } }
        }
        for _ in 0..<10 {
            log.append(["one"])
            now.withLock { $0 += 500 }
        }
        #expect(try place.segments().count == 5)
        log.setRetention(TelemetryRetention(milliseconds: nil))
        for _ in 0..<10 {
            log.append(["one"])
            now.withLock { $0 += 500_000 }
        }
        #expect(try place.segments().count == 5)
        log.close()
    }

    @Test func removesTheOldestOfAllPartitionsUntilNoMoreIsTooMuch() throws {
        let now = Mutex<Int64>(1_000_000)
        let log = try place.open {
            $0.partitions = 2
            $0.segmentBytes = 2000
            $0.retention = TelemetryRetention(milliseconds: nil)
            $0.now = { now.withLock { $0 } }
        }
        let devices = ["press-17", "d1"]  // partitions 1 and 0
        for number in 0..<100 {
            now.withLock { $0 += 10 }
            log.append(["\(number) " + String(repeating: "x", count: 300)], device: devices[number % 10 == 0 ? 1 : 0])
        }
        #expect(log.bytes > 30_000)
        log.setRetention(TelemetryRetention(milliseconds: nil, bytes: 20_000))
        log.enforceRetention()
        #expect(log.bytes <= 20_000 && log.bytes > 15_000)
        #expect(try place.readAll(1).map(\.text).last?.hasPrefix("99 ") == true)
        #expect(try place.readAll(0).count >= 2)
        log.setRetention(TelemetryRetention(milliseconds: nil, bytes: 1))
        log.enforceRetention()
        #expect(try place.segments(0).count == 1 && place.segments(1).count == 1)
        log.close()
    }

    @Test func servesReadersWhileSegmentsComeAndGo() throws {
        let log = try place.open {
            $0.segmentBytes = 3000
            $0.retention = TelemetryRetention(milliseconds: nil, bytes: 30_000)
            $0.retentionCheckMilliseconds = 1
        }
        let isOver = Mutex(false), failures = Mutex([String]())
        var threads: [Thread] = []
        for kind in 0..<4 {
            let reader =
                kind % 2 == 0 ? try log.reader(of: 0, from: .earliest) : try TelemetryReader(log.directory, partition: 0, from: .earliest)
            let isSlow = kind >= 2
            threads.append(
                try Thread.start {
                    var next: UInt64 = 0
                    while true {
                        let isLast = isOver.withLock { $0 }
                        do throws(TelemetryError) {
                            let batch = try reader.read(records: isSlow ? 2 : 100)
                            next += batch.missed
                            for record in batch.records {
                                if record.position.sequence != next || record.text.split(separator: " ").first != "\(next)" {
                                    failures.withLock { $0.append("reader \(kind): \(record.position) where \(next) is due") }
                                }
                                next = record.position.sequence + 1
                            }
                            if isLast, batch.isAtEnd { break }
                        } catch {
                            failures.withLock { $0.append("reader \(kind): \(error)") }
                            break
                        }
                        if isSlow { usleep(500) }
                    }
                    if next != 3000 { failures.withLock { $0.append("reader \(kind) ended at \(next)") } }
                })
        }
        for start in stride(from: 0, to: 3000, by: 5) {
            log.append((start..<start + 5).map { "\($0) " + String(repeating: "x", count: 200) })
        }
        isOver.withLock { $0 = true }
        for thread in threads { thread.join() }
        #expect(failures.withLock { $0.prefix(5) } == [])
        #expect(try log.bounds(of: 0).begin.sequence > 2000)
        log.close()
    }
}
