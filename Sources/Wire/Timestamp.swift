import Glibc

/// A point in time, UTC, in steps of 100 ns: what the service API shows (service-rest 1).
package struct Timestamp: Hashable, Comparable, Sendable {
    /// Steps of 100 ns since 1970.
    package var ticks: Int64

    package init(ticks: Int64) { self.ticks = ticks }
    /// - Parameter seconds: since 1970; times beyond 9999 become its end.
    package init(seconds: Int64) { ticks = min(max(seconds, -62_135_596_800), 253_402_300_799) * 10_000_000 }

    /// - Parameter milliseconds: since 1970; times beyond 9999 become its end.
    package init(milliseconds: Int64) {
        let seconds = milliseconds / 1000
        self.init(seconds: seconds)
        if self.seconds == seconds { ticks += milliseconds % 1000 * 10_000 }
    }

    /// The machine's clock.
    package static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(ticks: Int64(time.tv_sec) * 10_000_000 + Int64(time.tv_nsec) / 100)
    }

    /// Seconds since 1970.
    package var seconds: Int64 { (ticks - ((ticks % 10_000_000) + 10_000_000) % 10_000_000) / 10_000_000 }

    /// Milliseconds since 1970.
    package var milliseconds: Int64 { ticks / 10_000 }

    /// "Never", as the service says it.
    package static let never = Timestamp(seconds: -62_135_596_800)
    /// 100 ns steps since the year 1, as generation ids count them.
    package var sinceYearOne: UInt64 { UInt64(clamping: ticks &- Timestamp.never.ticks) }

    package static func < (one: Timestamp, other: Timestamp) -> Bool { one.ticks < other.ticks }
}

extension Timestamp: CustomStringConvertible {
    /// ISO 8601 with `Z`, and seven fraction digits where there is a fraction.
    package var description: String {
        let seconds = seconds
        let fraction = ticks - seconds * 10_000_000
        let days = (seconds - ((seconds % 86400) + 86400) % 86400) / 86400
        let (year, month, day) = Self.date(days)
        let clock = seconds - days * 86400
        let date = "\(Self.digits(year, 4))-\(Self.digits(month, 2))-\(Self.digits(day, 2))"
        let time = "\(Self.digits(clock / 3600, 2)):\(Self.digits(clock / 60 % 60, 2)):\(Self.digits(clock % 60, 2))"
        return fraction == 0 ? "\(date)T\(time)Z" : "\(date)T\(time).\(Self.digits(fraction, 7))Z"
    }

    /// Reads what `description` writes, with one to seven fraction digits, and with or without the `Z`; nil otherwise.
    package init?(parsing text: String) {
        var codes = Array(text.utf8)
        if codes.last == UInt8(ascii: "Z") { codes.removeLast() }
        let marks: [(Int, Character)] = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")]
        guard codes.count >= 19, codes.count <= 27, codes.count != 20, marks.allSatisfy({ codes[$0.0] == $0.1.asciiValue }) else {
            return nil
        }
        func number(_ range: Range<Int>) -> Int64? {
            var value: Int64 = 0
            for code in codes[range] {
                guard code >= 48, code <= 57 else { return nil }
                value = value * 10 + Int64(code - 48)
            }
            return value
        }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), year >= 1, (1...12).contains(month), (1...31).contains(day),
            hour < 24, minute < 60, second < 60
        else { return nil }
        var fraction: Int64 = 0
        if codes.count > 20 {
            guard codes[19] == UInt8(ascii: "."), let value = number(20..<codes.count) else { return nil }
            fraction = value
            for _ in codes.count..<27 { fraction *= 10 }
        }
        let days = Self.days(year, month, day)
        ticks = (days * 86400 + hour * 3600 + minute * 60 + second) * 10_000_000 + fraction
    }

    /// Year, month and day of a day counted from 1970. Years are counted from March, so that the leap day comes last;
    /// 146,097 days are 400 years.
    private static func date(_ days: Int64) -> (Int64, Int64, Int64) {
        let shifted = days + 719_468
        let era = (shifted - ((shifted % 146_097) + 146_097) % 146_097) / 146_097
        let day = shifted - era * 146_097
        let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365
        let ofYear = day - (365 * year + year / 4 - year / 100)
        let month = (5 * ofYear + 2) / 153
        return (year + era * 400 + (month >= 10 ? 1 : 0), month < 10 ? month + 3 : month - 9, ofYear - (153 * month + 2) / 5 + 1)
    }

    private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let year = month <= 2 ? year - 1 : year
        let era = year / 400
        let ofEra = year - era * 400
        let ofYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + ofEra * 365 + ofEra / 4 - ofEra / 100 + ofYear - 719_468
    }

    private static func digits(_ value: Int64, _ count: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
}
