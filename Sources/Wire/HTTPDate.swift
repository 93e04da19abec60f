/// The value of a `Date` field: RFC 9110 section 5.6.7, IMF-fixdate.
package enum HTTPDate {
    private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]  // 1970-01-01 was a Thursday
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// `Sun, 06 Nov 1994 08:49:37 GMT` for seconds since 1970; years outside 1–9999 are clamped.
    package static func text(_ unixSeconds: Int64) -> String {
        let seconds = min(max(unixSeconds, -62_135_596_800), 253_402_300_799)
        let day = (seconds - (seconds % 86400 + 86400) % 86400) / 86400, rest = Int(seconds - day * 86400)
        // Civil date from a day number, counting years from March so that leap days come last.
        let shifted = day + 719_468, era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let ofEra = shifted - era * 146_097, yearOfEra = (ofEra - ofEra / 1460 + ofEra / 36524 - ofEra / 146_096) / 365
        let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100), part = (5 * ofYear + 2) / 153
        let dayOfMonth = Int(ofYear - (153 * part + 2) / 5 + 1), month = Int(part < 10 ? part + 3 : part - 9)
        let year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let weekday = days[Int(((day % 7) + 7) % 7)], padded = String(repeating: "0", count: max(0, 4 - String(year).count)) + String(year)
        return
            "\(weekday), \(two(dayOfMonth)) \(months[month - 1]) \(padded) \(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60)) GMT"
    }

    /// Seconds since 1970; nil for anything but an IMF-fixdate.
    package static func parse(_ text: String) -> Int64? {
        let words = text.split(separator: " ")
        guard words.count == 6, words[5] == "GMT", words[0].utf8.count == 4, words[0].last == ",", let day = Int64(words[1]),
            let month = months.firstIndex(of: String(words[2])), let year = Int64(words[3]), (1...9999).contains(year),
            (1...31).contains(day)
        else { return nil }
        let clock = words[4].split(separator: ":", omittingEmptySubsequences: false).compactMap { $0.utf8.count == 2 ? Int64($0) : nil }
        guard clock.count == 3, (0...23).contains(clock[0]), (0...59).contains(clock[1]), (0...60).contains(clock[2]) else { return nil }
        let monthFromMarch = Int64((month + 10) % 12), shiftedYear = month < 2 ? year - 1 : year, era = shiftedYear / 400
        let yearOfEra = shiftedYear - era * 400
        let ofEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + (153 * monthFromMarch + 2) / 5 + day - 1
        return (era * 146_097 + ofEra - 719_468) * 86400 + clock[0] * 3600 + clock[1] * 60 + clock[2]
    }
}
