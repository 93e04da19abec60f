import Wire

extension AuditFilter {
    /// Reads a filter from texts by name, as a command line and a request have them; the names of what is wrong come back.
    ///
    /// - Parameters:
    ///   - value: the text of `since`, `until`, `event`, `device`, `outcome` or `from`.
    ///   - now: that lengths of time count back from.
    package static func read(now: Timestamp = .now, _ value: (String) -> String?) -> Result<AuditFilter, Malformed> {
        var filter = AuditFilter()
        for (name, path) in [("since", \AuditFilter.since), ("until", \AuditFilter.until)] {
            guard let text = value(name) else { continue }
            guard let time = moment(text, before: now) else {
                return .failure(
                    Malformed(name: name, remedy: "a time like 2026-01-31T08:00:00Z, a day like 2026-01-31, or how long ago like 1h"))
            }
            filter[keyPath: path] = time
        }
        if let text = value("event") {
            filter.kind = AuditEvent.Kind.all.first { $0.rawValue == text }
            guard filter.kind != nil else {
                return .failure(Malformed(name: "event", remedy: "one of " + AuditEvent.Kind.all.map(\.rawValue).joined(separator: ", ")))
            }
        }
        if let text = value("outcome") {
            guard ["ok", "refused", "failed"].contains(text) else {
                return .failure(Malformed(name: "outcome", remedy: "one of ok, refused, failed"))
            }
            filter.outcome = text
        }
        filter.device = value("device")
        filter.from = value("from")
        return .success(filter)
    }

    package struct Malformed: Error, Equatable {
        package let name, remedy: String
    }

    private static func moment(_ text: String, before now: Timestamp) -> Timestamp? {
        if let time = Timestamp(parsing: text) ?? Timestamp(parsing: text + "T00:00:00Z") { return time }
        guard let seconds = ConfigurationValue.seconds(text), seconds >= 0 else { return nil }
        return Timestamp(milliseconds: now.milliseconds - Int64(min(seconds, Int(Int32.max))) * 1000)
    }
}
