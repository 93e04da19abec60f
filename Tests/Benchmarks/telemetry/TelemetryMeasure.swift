import Bytes
import Glibc
import LinuxIO
import Synchronization
import Telemetry

/// Measures the telemetry log on a directory's disk; by hand:
///
///     telemetry-measure DIR sync                      bare writes of 4 KiB with fdatasync, one file
///     telemetry-measure DIR append PRODUCERS BYTES    each producer has one message on its way; 5 seconds
///     telemetry-measure DIR fill RECORDS BYTES        makes a log
///     telemetry-measure DIR open                      opens it, and reads all of it
@main
enum TelemetryMeasure {
    static func main() throws {
        let words = Process.arguments
        let numbers = words.dropFirst(3).compactMap { Int($0) }
        switch words.dropFirst(2).first {
        case "sync": try measureSync(words[1])
        case "append" where numbers.count == 2: try measureAppend(words[1], producers: numbers[0], bytes: numbers[1])
        case "fill" where numbers.count == 2: try fill(words[1], records: numbers[0], bytes: numbers[1])
        case "open": try measureOpen(words[1])
        default: print("usage: telemetry-measure DIR sync | append PRODUCERS BYTES | fill RECORDS BYTES | open")
        }
    }
}

private let seconds = 5.0

private func now() -> Double { Double(Clock.nanoseconds) / 1e9 }

/// Seconds of processor time that the process has used.
private func used() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
}

private func measureSync(_ directory: String) throws {
    let path = "\(directory)/measure-sync", file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
    defer {
        close(file)
        unlink(path)
    }
    let bytes = [UInt8](repeating: 1, count: 4096), started = now()
    var count = 0
    while now() - started < seconds {
        pwrite(file, bytes, bytes.count, off_t(count * bytes.count))
        fdatasync(file)
        count += 1
    }
    print("sync: \(Int(Double(count) / seconds))/s")
}

/// A thread that submits for its producers, as a reactor would: what is acknowledged comes back through a queue.
private final class Feeder: Sendable {
    private let acknowledged = Mutex([Int]())
    private let bell = Semaphore()
    let isOver = Atomic<Bool>(false)
    let count = Atomic<Int>(0), full = Atomic<Int>(0)

    func run(_ log: TelemetryLog, _ producers: [Int], _ body: [UInt8]) {
        let envelopes = producers.map { number in
            TelemetryEnvelope(
                deviceID: "device-\(number)", authentication: TelemetryAuthentication(.device, .sas),
                system: [.init(.contentType, "application/json"), .init(.generationID, "638412345678901234")],
                application: [.init("level", "normal")])
        }
        var waiting = Array(producers.indices)
        while !isOver.load(ordering: .relaxed) {
            for index in waiting {
                let verdict = log.submit(envelopes[index], body: body.span.bytes) { [self] result in
                    guard case .success = result else { return }
                    count.wrappingAdd(1, ordering: .relaxed)
                    post(index)
                }
                if verdict == .full {
                    full.wrappingAdd(1, ordering: .relaxed)
                    log.whenRoom(for: envelopes[index].deviceID) { [self] in post(index) }
                }
            }
            bell.wait()
            waiting = acknowledged.withLock { exchange(&$0, with: []) }
        }
    }

    private func post(_ index: Int) {
        let isFirst = acknowledged.withLock { list in
            list.append(index)
            return list.count == 1
        }
        if isFirst { bell.signal() }
    }

    func stop() {
        isOver.store(true, ordering: .relaxed)
        bell.signal()
    }
}

private func measureAppend(_ directory: String, producers: Int, bytes: Int) throws {
    let log = try TelemetryLog(at: directory)
    let body = [UInt8](repeating: 0x61, count: bytes)
    let feeders = (0..<min(2, producers)).map { _ in Feeder() }
    let threads = try feeders.enumerated().map { index, feeder in
        let mine = Array(stride(from: index, to: producers, by: feeders.count))
        return try Thread.start { feeder.run(log, mine, body) }
    }
    usleep(500_000)
    func count() -> Int { feeders.reduce(0) { $0 + $1.count.load(ordering: .relaxed) } }
    let before = (count: count(), commits: log.commits, used: used(), time: now())
    usleep(useconds_t(seconds * 1e6))
    let time = now() - before.time, records = count() - before.count, commits = log.commits - before.commits, cpu = used() - before.used
    for feeder in feeders { feeder.stop() }
    for thread in threads { thread.join() }
    log.close()
    let rate = Int(Double(records) / time), perCommit = Double(records * 10 / max(1, commits)) / 10
    print(
        "append: \(producers) producers, \(bytes) bytes: \(rate) records/s, \(Int(Double(commits) / time)) commits/s, \(perCommit) a commit, "
            + "\(Double(Int(cpu / Double(max(1, records)) * 1e8)) / 100) us of CPU a record, "
            + "\(feeders.reduce(0) { $0 + $1.full.load(ordering: .relaxed) }) times full")
}

private func fill(_ directory: String, records: Int, bytes: Int) throws {
    let log = try TelemetryLog(at: directory), body = [UInt8](repeating: 0x61, count: bytes)
    let started = now()
    for number in 0..<records {
        let envelope = TelemetryEnvelope(deviceID: "device-\(number % 1000)", application: [.init("number", "\(number)")])
        while log.submit(envelope, body: body.span.bytes, completion: { _ in }) == .full {
            let room = Semaphore()
            log.whenRoom(for: envelope.deviceID) { room.signal() }
            room.wait()
        }
    }
    log.close()
    print("fill: \(records) records in \(Int((now() - started) * 1000)) ms, \(log.bytes >> 20) MiB, \(log.commits) commits")
}

private func measureOpen(_ directory: String) throws {
    var started = now()
    let log = try TelemetryLog(at: directory)
    print("open: \(Int((now() - started) * 1e6)) us; findings: \(log.findings.filter { !$0.isClean })")
    started = now()
    let cpu = used()
    var count = 0
    for partition in 0..<log.directory.partitions {
        let reader = try log.reader(of: partition, from: .earliest)
        while true {
            let batch = try reader.read()
            count += batch.records.count
            if batch.isAtEnd { break }
        }
    }
    print(
        "read: \(count) records in \(Int((now() - started) * 1000)) ms, \(Double(Int((used() - cpu) / Double(max(1, count)) * 1e8)) / 100) us of CPU a record"
    )
    for partition in 0..<log.directory.partitions {
        let bounds = try log.bounds(of: partition)
        started = now()
        _ = try log.reader(of: partition, from: .sequence((bounds.begin.sequence + bounds.end.sequence) / 2, inclusive: true)).read(
            records: 1)
        print("seek: \(Int((now() - started) * 1e6)) us")
    }
    log.close()
}
