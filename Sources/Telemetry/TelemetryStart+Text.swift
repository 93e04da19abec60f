import Wire

extension TelemetryStart {
    /// As a person or a request says it: `beginning`, `now`, an offset, or an ISO 8601 time; nil for anything else.
    package init?(_ text: String) {
        switch text {
        case "beginning": self = .earliest
        case "now": self = .latest
        default:
            if let offset = UInt64(text), !text.hasPrefix("+") {
                self = .offset(offset, inclusive: true)
            } else if let time = Timestamp(parsing: text) {
                self = .time(time.milliseconds, inclusive: true)
            } else {
                return nil
            }
        }
    }
}
