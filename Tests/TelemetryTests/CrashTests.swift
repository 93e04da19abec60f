import Bytes
import Glibc
import LinuxIO
import Synchronization
import Telemetry
import Testing

@Suite struct CrashTests {
    let place: Place

    init() throws { place = try Place() }

    /// A log whose last commit has three records, its newest segment, and where in it the last commit begins.
    private func fill() throws -> (path: String, bytes: [UInt8], lastCommit: Int) {
        let log = try place.open()
        log.appendEach(["one", "two"])
        let done = Semaphore()
        // What is submitted while the writer is busy with a completion is one commit.
        _ = log.submit(TelemetryEnvelope(deviceID: "d1"), Array("three".utf8)) { _ in
            for text in ["four", "five", "six"] {
                _ = log.submit(TelemetryEnvelope(deviceID: "d1"), Array(text.utf8)) { _ in done.signal() }
            }
        }
        for _ in 0..<3 { done.wait() }
        #expect(log.commits == 4)
        let begin = try log.reader(of: 0, from: .sequence(3, inclusive: true)).position
        log.close()
        let path = try place.newestSegment()
        return (path, try contents(path), SegmentHeader.size + Int(begin.offset))
    }

    private static let texts = ["one", "two", "three", "four", "five", "six"]

    /// Opens the log as it is, and checks that what is there is the beginning of what was, and that it can be gone on with.
    private func check(atLeast least: Int, _ what: String) throws -> TelemetryFindings {
        let log = try place.open(), findings = log.findings[0]
        log.append(["new"])
        log.close()
        let texts = try place.readAll().map(\.text)
        let kept = texts.dropLast()
        #expect(texts.last == "new" && kept.elementsEqual(Self.texts.prefix(kept.count)) && kept.count >= least, "\(what): \(texts)")
        #expect(try place.readAll().map(\.position.sequence) == Array(0..<UInt64(texts.count)), "\(what)")
        return findings
    }

    @Test func cutsATornTailWhereverItIsTorn() throws {
        let (path, bytes, lastCommit) = try fill()
        for count in lastCommit..<bytes.count {
            write(Array(bytes[..<count]), to: path)
            unlink("\(place.path)/0/mark")
            let findings = try check(atLeast: 3, "cut to \(count)")
            #expect(findings.damage.isEmpty)
            #expect(findings.tornBytes < bytes.count - lastCommit)
            for segment in try place.segments().dropFirst() { unlink(segment) }
        }
    }

    @Test func cutsAWriteOfWhichAnyBitIsWrong() throws {
        let (path, bytes, lastCommit) = try fill()
        for index in lastCommit..<bytes.count {
            var bent = bytes
            bent[index] ^= 1 << (index % 8)
            write(bent, to: path)
            unlink("\(place.path)/0/mark")
            let findings = try check(atLeast: 3, "byte \(index)")
            #expect(findings.damage.isEmpty, "byte \(index)")
        }
    }

    @Test func cutsATailOfWhichOnlyTheBeginningIsMissing() throws {
        // The pages of one write may reach the disk in any order.
        let (path, bytes, lastCommit) = try fill()
        write(bytes[..<lastCommit] + [UInt8](repeating: 0, count: 32) + bytes[(lastCommit + 32)...], to: path)
        unlink("\(place.path)/0/mark")
        let findings = try check(atLeast: 3, "hole")
        #expect(findings.tornBytes > 0 && findings.damage.isEmpty)
    }

    @Test func keepsWhatIsAfterDamageThatALaterCommitShowsToBeDamage() throws {
        let (path, bytes, _) = try fill()
        let second = try place.readAll()[1].position.offset
        poke(path, at: SegmentHeader.size + Int(second) + 50, [0xFF, 0xFF])
        unlink("\(place.path)/0/mark")
        unlink(try place.indexes()[0])
        let log = try place.open()
        #expect(log.findings[0].damage.map(\.offset) == [second])
        #expect(log.findings[0].tornBytes == 0)
        log.append(["new"])
        log.close()
        #expect(try contents(path).count > bytes.count)
        let reader = try TelemetryReader(LogDirectory(place.path), partition: 0, from: .earliest)
        #expect(try reader.read().records.map(\.text) == ["one"])
        let third = try #require(log.findings[0].damage.first?.resumesAt)
        let damage = TelemetryDamage(path: path, partition: 0, offset: second, resumesAt: third)
        #expect(throws: TelemetryError.damaged(damage)) { try reader.read() }
        #expect(throws: TelemetryError.damaged(damage)) { try reader.read() }
        reader.skipDamage()
        let batch = try reader.read()
        #expect(batch.records.map(\.text) == ["three", "four", "five", "six", "new"])
        #expect(batch.missed == 1)
        #expect(batch.records.map(\.position.sequence) == [2, 3, 4, 5, 6])
    }

    @Test func saysThatWhatTheMarkKnewOfIsLost() throws {
        let (path, bytes, lastCommit) = try fill()
        write(Array(bytes[..<lastCommit]), to: path)
        let log = try place.open()
        let end = UInt64(bytes.count - SegmentHeader.size)
        let damage = TelemetryDamage(path: path, partition: 0, offset: UInt64(lastCommit - SegmentHeader.size), resumesAt: end)
        #expect(log.findings[0].damage == [damage])
        log.append(["new"])
        log.close()
        let reader = try TelemetryReader(LogDirectory(place.path), partition: 0, from: .earliest)
        #expect(try reader.read().records.map(\.text) == ["one", "two", "three"])
        #expect(throws: TelemetryError.damaged(damage)) { try reader.read() }
        reader.skipDamage()
        let batch = try reader.read()
        #expect(batch.records.map(\.text) == ["new"] && batch.missed == 3)
        #expect(batch.records.first?.position == TelemetryPosition(offset: end, sequence: 6))
    }

    /// A child with 20 devices that appends, writes down what was acknowledged, and kills itself. Its log is then opened here.
    @Test func losesNothingAcknowledgedWhenItIsKilled() async throws {
        let rounds = getenv("IOTSTREAM_CRASH_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 4
        var place = place
        var numbers = [Int](repeating: 0, count: 20)
        for round in 0..<rounds {
            if round % 10 == 9 {  // a new log: to check all of it again and again would take long
                place = try Place()
                numbers = [Int](repeating: 0, count: 20)
            }
            let note = "\(place.path)/acknowledged"
            write([], to: note)
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [
                    path = place.path as String, note = note as String, numbers = numbers as [Int], round = round as Int
                ] in
                try await Producers.run(at: path, noting: note, from: numbers, killAfter: 20 + (round * 37) % 180)
            }
            var acknowledged = numbers
            for line in String(decoding: try contents(note), as: UTF8.self).split(separator: "\n") {
                let words = line.split(separator: " ").compactMap { Int($0) }
                guard words.count == 2, acknowledged.indices ~= words[0] else { continue }
                acknowledged[words[0]] = max(acknowledged[words[0]], words[1] + 1)
            }
            #expect(acknowledged.reduce(0, +) > numbers.reduce(0, +), "round \(round) did something")
            let log = try place.open(Producers.options)
            #expect(log.findings.allSatisfy { $0.damage.isEmpty })
            log.close()
            numbers = try stored(in: place, atLeast: acknowledged, round)
        }
    }

    /// The next number of each device, when all numbers of each are there, in order and once.
    private func stored(in place: Place, atLeast acknowledged: [Int], _ round: Int) throws -> [Int] {
        var next = [Int](repeating: 0, count: acknowledged.count)
        for partition in 0..<4 {
            let records = try place.readAll(partition)
            #expect(records.map(\.position.sequence) == Array(0..<UInt64(records.count)), "round \(round)")
            for record in records {
                let device = Int(record.envelope.deviceID.dropFirst(7)) ?? 0
                if record.text != "\(next[device])" {
                    Issue.record("round \(round): device \(device) has \(record.text) where \(next[device]) is due")
                }
                next[device] += 1
            }
        }
        for device in next.indices { #expect(next[device] >= acknowledged[device], "round \(round): device \(device)") }
        return next
    }
}

/// What the child of the crash test does.
private enum Producers {
    static func options(_ options: inout TelemetryLog.Options) {
        options.partitions = 4
        options.segmentBytes = 50_000
    }

    static func run(at path: String, noting note: String, from numbers: [Int], killAfter milliseconds: Int) async throws {
        let log = try TelemetryLog(at: path, Place.options(options))
        let notes = open(note, O_WRONLY | O_APPEND | O_CLOEXEC)
        for (device, number) in numbers.enumerated() {
            for ahead in 0..<5 { send(log, notes, device, number + ahead, step: 5) }
        }
        usleep(useconds_t(milliseconds * 1000))
        kill(getpid(), SIGKILL)
    }

    /// Appends one message; when it is acknowledged, notes it and sends the device's next but four, so that five are on their way.
    static func send(_ log: TelemetryLog, _ notes: CInt, _ device: Int, _ number: Int, step: Int) {
        _ = log.submit(TelemetryEnvelope(deviceID: "device-\(device)"), Array("\(number)".utf8)) { result in
            guard case .success = result else { return }
            let line = Array("\(device) \(number)\n".utf8)
            _ = Glibc.write(notes, line, line.count)
            send(log, notes, device, number + step, step: step)
        }
    }
}
