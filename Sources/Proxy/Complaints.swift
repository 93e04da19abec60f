/// Which lines a person has just read: the first of a kind is always shown, its repetitions are counted and shown now and then.
struct Complaints {
    private struct Entry {
        var shownAt: UInt64
        var hidden = 0
    }

    private static let pauseMilliseconds: UInt64 = 5000
    private static let limit = 1024
    private var entries: [String: Entry] = [:]

    /// The line to show now, if any.
    /// - Parameter now: milliseconds of any steady clock.
    mutating func line(for text: String, now: UInt64) -> String? {
        guard let entry = entries[text] else {
            if entries.count >= Self.limit { entries.removeAll() }
            entries[text] = Entry(shownAt: now)
            return text
        }
        guard now &- entry.shownAt >= Self.pauseMilliseconds else {
            entries[text]?.hidden += 1
            return nil
        }
        entries[text] = Entry(shownAt: now)
        return entry.hidden == 0 ? text : "\(text) (and \(entry.hidden) times before)"
    }
}
