import Glibc
import Synchronization

/// One line an event, on standard error: `hub event=stream-closed stream=7f3a device=press-17 reason=done`.
///
/// When standard error is no terminal each line starts with its level as journald reads it (`<6>`). Values are quoted and escaped, so
/// nobody's bytes can forge a line. Safe from every thread; a line is one write. Never pass a key or a token.
package enum Log {
    /// syslog's levels. A stranger's bad bytes are `info`; `warning` means that somebody should act.
    package enum Level: Int, Sendable, Comparable {
        case error = 3, warning, notice, info, debug

        package static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
    }

    private static let threshold = Atomic<Int>(Level.warning.rawValue)
    private static let prefix = Mutex<(role: String, levels: Bool)>(("iotstream", false))

    /// Sets who speaks and how much; the command line does this before a command runs.
    package static func start(role: String, level: Level) {
        threshold.store(level.rawValue, ordering: .relaxed)
        prefix.withLock { $0 = (role, isatty(STDERR_FILENO) == 0) }
    }

    /// Whether a line of this level is written at all.
    package static func isOn(_ level: Level) -> Bool { level.rawValue <= threshold.load(ordering: .relaxed) }

    /// Writes one line; when the level is off the fields are never made.
    ///
    /// - Parameters:
    ///   - event: a word with dashes: `stream-closed`.
    ///   - fields: names are words of ours, values anybody's text.
    package static func write(_ level: Level, _ event: StaticString, _ fields: @autoclosure () -> KeyValuePairs<StaticString, String> = [:])
    {
        guard isOn(level) else { return }
        let (role, levels) = prefix.withLock { $0 }
        var line = levels ? "<\(level.rawValue)>\(role) event=\(event)" : "\(role) event=\(event)"
        for (name, value) in fields() { line += " \(name)=\(Printable.value(value))" }
        line += "\n"
        Output.writeToStandardError(line)
    }

    package static func error(_ event: StaticString, _ fields: @autoclosure () -> KeyValuePairs<StaticString, String> = [:]) {
        write(.error, event, fields())
    }
    package static func warning(_ event: StaticString, _ fields: @autoclosure () -> KeyValuePairs<StaticString, String> = [:]) {
        write(.warning, event, fields())
    }
    package static func notice(_ event: StaticString, _ fields: @autoclosure () -> KeyValuePairs<StaticString, String> = [:]) {
        write(.notice, event, fields())
    }
    package static func info(_ event: StaticString, _ fields: @autoclosure () -> KeyValuePairs<StaticString, String> = [:]) {
        write(.info, event, fields())
    }
    package static func debug(_ event: StaticString, _ fields: @autoclosure () -> KeyValuePairs<StaticString, String> = [:]) {
        write(.debug, event, fields())
    }
}
