import Bytes
import Glibc
import LinuxIO
import Synchronization
import Telemetry

/// A directory of its own for each test, removed with it.
final class Place: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/iotstream-telemetry-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        for name in (try? Files.names(in: path)) ?? [] { remove("\(path)/\(name)") }
        if unlink(path) != 0 { rmdir(path) }
    }

    /// With one partition unless told otherwise, and no thread that looks at retention by itself.
    func open(_ change: (inout TelemetryLog.Options) -> Void = { _ in }) throws(TelemetryError) -> TelemetryLog {
        try TelemetryLog(at: path, Self.options(change))
    }

    static func options(_ change: (inout TelemetryLog.Options) -> Void = { _ in }) -> TelemetryLog.Options {
        var options = TelemetryLog.Options()
        options.partitions = 1
        options.retentionCheckMilliseconds = 3_600_000
        change(&options)
        return options
    }

    /// The newest segment's file of a partition.
    func newestSegment(_ partition: Int = 0) throws -> String { try segments(partition).last ?? "" }

    func segments(_ partition: Int = 0) throws -> [String] {
        try Files.names(in: "\(path)/\(partition)").filter { $0.hasSuffix(".log") }.map { "\(path)/\(partition)/\($0)" }
    }

    func indexes(_ partition: Int = 0) throws -> [String] {
        try Files.names(in: "\(path)/\(partition)").filter { $0.hasSuffix(".index") }.map { "\(path)/\(partition)/\($0)" }
    }

    /// All records that a reader in another process sees, from a place on.
    func readAll(_ partition: Int = 0, from start: TelemetryStart = .earliest) throws(TelemetryError) -> [TelemetryRecord] {
        try TelemetryReader(try LogDirectory(path), partition: partition, from: start).readAll()
    }
}

extension TelemetryReader {
    /// All that there is to read now.
    func readAll() throws(TelemetryError) -> [TelemetryRecord] {
        var records: [TelemetryRecord] = []
        while true {
            let batch = try read()
            records += batch.records
            if batch.isAtEnd { return records }
        }
    }
}

extension TelemetryRecord {
    var text: String { String(decoding: body, as: UTF8.self) }
}

extension TelemetryLog {
    /// Submits messages of a device one after the other, waits for all, and tells what became of each.
    @discardableResult
    func append(_ texts: [String], device: String = "d1") -> [Result<TelemetryPosition, TelemetryError>] {
        let results = Mutex([Result<TelemetryPosition, TelemetryError>]())
        let done = Semaphore()
        for text in texts {
            let completion: @Sendable (Result<TelemetryPosition, TelemetryError>) -> Void = { result in
                results.withLock { $0.append(result) }
                done.signal()
            }
            loop: while true {
                switch submit(TelemetryEnvelope(deviceID: device), body: text.utf8Span.span.bytes, completion: completion) {
                case .accepted: break loop
                case .full:
                    let room = Semaphore()
                    whenRoom(for: device) { room.signal() }
                    room.wait()
                case .refused(let error): completion(.failure(error)); break loop
                }
            }
        }
        for _ in texts { done.wait() }
        return results.withLock { $0 }
    }

    /// Each in a commit of its own.
    func appendEach(_ texts: [String], device: String = "d1") { for text in texts { append([text], device: device) } }
}

func poke(_ path: String, at offset: Int, _ bytes: [UInt8]) {
    let file = open(path, O_WRONLY)
    defer { close(file) }
    _ = pwrite(file, bytes, bytes.count, off_t(offset))
}

func contents(_ path: String) throws -> [UInt8] { try Files.read(path, limit: 1 << 30) }

func write(_ bytes: [UInt8], to path: String) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    defer { close(file) }
    _ = Glibc.write(file, bytes, bytes.count)
}

// The calls of the room for arrays, since a span cannot be in an expectation.

extension TelemetryLog {
    func submit(
        _ envelope: TelemetryEnvelope, _ body: [UInt8], completion: @escaping @Sendable (Result<TelemetryPosition, TelemetryError>) -> Void
    ) -> TelemetrySubmission { submit(envelope, body: body.span.bytes, completion: completion) }
}

extension RecordHeader {
    static func parse(_ bytes: [UInt8], at offset: UInt64, seal: RecordSeal) throws(Fault) -> Parsed {
        try parse(bytes.span.bytes, at: offset, seal: seal)
    }
}

extension SegmentHeader {
    static func parse(_ bytes: [UInt8]) throws(Fault) -> SegmentHeader { try parse(bytes.span.bytes) }
}

extension Checksum {
    static func of(_ bytes: [UInt8]) -> UInt32 { of(bytes.span.bytes) }
}
