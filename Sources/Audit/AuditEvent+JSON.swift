import Bytes
import Wire

extension AuditEvent {
    /// The longest line that a reader takes, in bytes; lines that the log writes are far shorter.
    package static let longestLine = 64 << 10

    /// The document of the event; members that say nothing are left out.
    package var json: JSONValue {
        var members = JSONObject()
        func add(_ name: String, _ text: String) { if !text.isEmpty { members[name] = .string(text) } }
        add("time", time.description)
        add("service", service)
        add("event", kind.rawValue)
        add("action", action)
        add("outcome", outcome.name)
        add("code", outcome.code)
        add("reason", outcome.words)
        add("actor", actor)
        add("subject", subject)
        add("from", from)
        add("protocol", transport)
        if count != 1 { members["count"] = .integer(Int64(count)) }
        if !detail.isEmpty { members["detail"] = .object(detail) }
        return .object(members)
    }

    /// The event as one line of the log, its texts bounded, with the line break.
    package var line: [UInt8] {
        var bytes = bounded.json.bytes()
        bytes.append(UInt8(ascii: "\n"))
        return bytes
    }

    /// Reads a line without its break; nil when it is not one of an audit log. Members that this release does not know are passed over.
    package init?(line: RawSpan) {
        guard line.byteCount <= Self.longestLine, let document = try? JSONValue.parse(line, depth: 4) else { return nil }
        self.init(json: document)
    }

    /// Nil when it is not an event's document.
    package init?(json document: JSONValue) {
        func text(_ name: String) -> String { document[name]?.string ?? "" }
        guard let time = Timestamp(parsing: text("time")), !text("event").isEmpty else { return nil }
        let outcome: Outcome
        switch text("outcome") {
        case "ok": outcome = .ok
        case "refused": outcome = .refused(text("code"), text("reason"))
        case "failed": outcome = .failed(text("code"), text("reason"))
        default: return nil
        }
        self.init(
            Kind(rawValue: text("event")), text("action"), outcome, actor: text("actor"), subject: text("subject"), from: text("from"),
            protocol: text("protocol"), detail: document["detail"]?.object ?? JSONObject(), at: time)
        service = text("service")
        if let count = document["count"]?.integer { self.count = Int(clamping: max(1, count)) }
    }
}
