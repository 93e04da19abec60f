import Audit
import Bytes
import Glibc
import LinuxIO
import Wire

/// A directory of its own for each test, removed with it; the log is in `audit` below it.
final class Place: Sendable {
    let root: String
    var path: String { root + "/audit" }

    init() throws {
        var template = Array("/tmp/iotstream-audit-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        root = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(root) }

    private static func remove(_ path: String) {
        for name in (try? Files.names(in: path)) ?? [] { remove("\(path)/\(name)") }
        if unlink(path) != 0 { rmdir(path) }
    }

    func files() throws -> [String] { try Files.names(in: path) }
    func text(_ file: String) throws -> String { String(decoding: try Files.read("\(path)/\(file)", limit: 1 << 26), as: UTF8.self) }

    /// Everything in the log.
    func read(_ start: AuditStart = .earliest) throws -> (events: [AuditEvent], damaged: Int) {
        try AuditReader(at: path, from: start).readAll()
    }
}

extension AuditReader {
    func readAll() throws -> (events: [AuditEvent], damaged: Int) {
        var all: ([AuditEvent], Int) = ([], 0)
        while true {
            let part = try read()
            all.0 += part.events
            all.1 += part.damaged
            if part.isAtEnd { return all }
        }
    }
}

/// 2026-11-21T08:00:00Z, and seconds after it.
func moment(_ seconds: Int64 = 0) -> Timestamp { Timestamp(seconds: 1_795_248_000 + seconds) }

func connect(_ device: String, _ outcome: AuditEvent.Outcome = .ok, from: String = "10.1.2.3:4000", at seconds: Int64 = 0) -> AuditEvent {
    AuditEvent(.authentication, "connect", outcome, actor: "device:\(device)", from: from, protocol: "mqtt", at: moment(seconds))
}

/// What a reader makes of a line.
func event(of line: some Sequence<UInt8>) -> AuditEvent? { AuditEvent(line: Array(line).span.bytes) }
