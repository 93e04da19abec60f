import Bytes
import Glibc
import LinuxIO
import Wire

/// A place in the log, as text `2026-11-21-0001:4096`: a file without its ending, and bytes in it.
package struct AuditPosition: Equatable, Sendable {
    var name: AuditName
    var offset: Int

    init(_ name: AuditName, _ offset: Int) {
        self.name = name
        self.offset = offset
    }

    package var text: String { "\(name.file.prefix(15)):\(offset)" }

    /// Nil for a text of another form.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let name = AuditName(parts[0] + ".jsonl"), let offset = Int(parts[1]), offset >= 0 else { return nil }
        self.init(name, offset)
    }
}

/// Where to begin to read.
package enum AuditStart: Equatable, Sendable {
    case earliest
    /// With what comes from now on.
    case latest
    /// With the files of a moment's day.
    case time(Timestamp)
    case position(AuditPosition)
}

/// Reads a log in any process, from one file on to the next.
package final class AuditReader {
    /// What one look has found.
    package struct Part {
        package var events: [AuditEvent] = []
        /// Lines that are no events: torn by a crash, or not ours.
        package var damaged = 0
        /// There is nothing more for now.
        package var isAtEnd = false

        package init() {}
    }

    private let path: String
    private var start: AuditStart
    /// Nil until there is a file.
    package private(set) var position: AuditPosition?
    /// The rest of a line that is too long is passed over.
    private var isSkipping = false

    package init(at path: String, from start: AuditStart) {
        self.path = path
        self.start = start
        if start == .latest { begin(AuditAppender.names(in: path)) }
    }

    /// Reads on, some hundred lines at most.
    package func read() throws(SystemError) -> Part {
        // Looked at before the file: when there is a later one, nobody writes to this one any more.
        let names = AuditAppender.names(in: path)
        var part = Part()
        if position == nil { begin(names) }
        guard let here = position else {
            part.isAtEnd = true
            return part
        }
        let next = names.first { $0 > here.name }
        let bytes = try chunk(at: here)
        let used = take(bytes, into: &part)
        position?.offset += used
        if used == 0 {
            if let next {
                if !bytes.isEmpty || isSkipping { part.damaged += 1 }
                isSkipping = false
                position = AuditPosition(next, 0)
            } else {
                part.isAtEnd = true
            }
        }
        return part
    }

    private func begin(_ names: [AuditName]) {
        let first: AuditPosition?
        switch start {
        case .earliest: first = names.first.map { AuditPosition($0, 0) }
        case .latest: first = names.last.map { AuditPosition($0, Int(clamping: Files.stamp("\(path)/\($0.file)")?.bytes ?? 0)) }
        case .time(let time):
            let day = AuditName.day(of: time)
            first = names.first { $0.day >= day }.map { AuditPosition($0, 0) }
        case .position(let position): first = position
        }
        position = first
        if first != nil || start == .latest { start = .earliest }
    }

    /// At most `longestLine` bytes; none when the file has gone.
    private func chunk(at place: AuditPosition) throws(SystemError) -> [UInt8] {
        let raw = Glibc.open("\(path)/\(place.name.file)", O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard raw >= 0 else {
            if errno == ENOENT { return [] }
            throw SystemError("open")
        }
        let file = OwnedDescriptor(adopting: raw)
        var bytes = [UInt8](repeating: 0, count: AuditEvent.longestLine)
        while true {
            let count = pread(file.raw, &bytes, bytes.count, off_t(place.offset))
            if count >= 0 { return Array(bytes[..<count]) }
            guard errno == EINTR else { throw SystemError("read") }
        }
    }

    /// Takes whole lines and returns how many bytes they had.
    private func take(_ bytes: [UInt8], into part: inout Part) -> Int {
        let span = bytes.span.bytes
        var used = 0
        while let end = span.firstIndex(of: 10, from: used) {
            let line = span.extracting(used..<end)
            used = end + 1
            if exchange(&isSkipping, with: false) {
                part.damaged += 1
            } else if line.byteCount > 0 {
                if let event = AuditEvent(line: line) { part.events.append(event) } else { part.damaged += 1 }
            }
        }
        if used == 0, bytes.count == AuditEvent.longestLine {
            isSkipping = true
            return bytes.count
        }
        return used
    }
}
