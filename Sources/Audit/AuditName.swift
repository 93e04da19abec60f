import Wire

/// The name of a file of the log: `2026-11-21-0001.jsonl`, the day in UTC and a number that begins with 1 each day.
///
/// A file never changes its name, and the greatest name is the one that is written to.
struct AuditName: Comparable, Sendable {
    /// Days since 1970, in the form `2026-11-21`.
    let day: String
    let number: Int

    private static let ending = ".jsonl", digits = 4, most = 9999

    init(day: String, number: Int) {
        self.day = day
        self.number = number
    }

    /// Nil for a file of another kind.
    init?(_ file: String) {
        let bytes = Array(file.utf8)
        guard bytes.count == 10 + 1 + Self.digits + Self.ending.utf8.count, file.hasSuffix(Self.ending) else { return nil }
        let day = String(decoding: bytes[..<10], as: UTF8.self)
        guard bytes[10] == UInt8(ascii: "-"), Timestamp(parsing: day + "T00:00:00Z") != nil,
            bytes[11..<15].allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(String(decoding: bytes[11..<15], as: UTF8.self)),
            number > 0
        else { return nil }
        self.init(day: day, number: number)
    }

    /// The name in the directory.
    var file: String {
        let text = String(number)
        return "\(day)-\(String(repeating: "0", count: max(0, Self.digits - text.utf8.count)))\(text)\(Self.ending)"
    }

    /// The day of a moment.
    static func day(of time: Timestamp) -> String { String(time.description.prefix(10)) }

    /// The name after this one on a day; nil when the day has no more numbers: then the file goes on.
    func following(on day: String) -> AuditName? {
        if day > self.day { return AuditName(day: day, number: 1) }
        // A clock that was set back does not make names that sort before what there is.
        return number < Self.most ? AuditName(day: self.day, number: number + 1) : nil
    }

    static func < (one: AuditName, other: AuditName) -> Bool {
        one.day == other.day ? one.number < other.number : one.day < other.day
    }
}
