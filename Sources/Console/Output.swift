import Glibc
import Synchronization
import Wire

/// Standard output for results, standard error for everything else.
package enum Output {
    private static let pending = Mutex<[UInt8]>([])
    private static let isQuiet = Atomic<Bool>(false)

    /// Set by `-q`: `tell` is silent.
    package static func setQuiet(_ quiet: Bool) { isQuiet.store(quiet, ordering: .relaxed) }

    /// A line of a result. Buffered; flushed when the command ends, or by `flush` where results trickle.
    package static func line(_ text: String) throws(Failure) {
        try write(text + "\n")
    }

    /// A result as JSON: laid out on a terminal, else on one line.
    package static func json(_ value: JSONValue) throws(Failure) {
        try line(value.text(style: isatty(STDOUT_FILENO) == 1 ? .pretty : .compact))
    }

    /// One of many results as JSON, on a line of its own.
    package static func jsonLine(_ value: JSONValue) throws(Failure) {
        try line(value.text(style: .compact))
    }

    /// Bytes of a result as they are.
    package static func write(_ text: String) throws(Failure) {
        let isFull = pending.withLock { buffer in
            buffer.append(contentsOf: text.utf8)
            return buffer.count >= 32_768
        }
        if isFull { try flush() }
    }

    /// Writes out what waits; exit 74 when that cannot be done, a quiet end when the reader has gone.
    package static func flush() throws(Failure) {
        let bytes = pending.withLock { buffer in
            let bytes = buffer
            buffer.removeAll(keepingCapacity: true)
            return bytes
        }
        guard !bytes.isEmpty else { return }
        let code = writeAll(bytes, to: STDOUT_FILENO)
        if code == EPIPE { throw .silent(exitCode: 0) }
        if code != 0 { throw .io("standard output: \(Failure.describe(errno: code))", "make room and run it again") }
    }

    /// Columns under their titles, two spaces apart; terminal control characters in cells are escaped.
    package static func table(_ titles: [String], _ rows: [[String]]) throws(Failure) {
        for text in Table.lines(titles, rows) { try line(text) }
    }

    /// A line for the person, on standard error: progress, readiness. Silent under `-q`.
    package static func tell(_ text: String) {
        guard !isQuiet.load(ordering: .relaxed) else { return }
        writeToStandardError(Printable.oneLine(text) + "\n")
    }

    /// A warning for the person, on standard error: `iotstream ROLE: warning: …`. Not silenced.
    package static func warn(role: String, _ text: String) {
        writeToStandardError(Printable.oneLine("iotstream \(role): warning: \(text)") + "\n")
    }

    /// The failure's line on standard error; none for a silent one.
    package static func report(_ failure: Failure, role: String) {
        guard !failure.what.isEmpty else { return }
        writeToStandardError(failure.line(role: role) + "\n")
    }

    /// One write, so that lines of several threads do not mix; a full or closed standard error is nobody's business.
    static func writeToStandardError(_ text: String) {
        _ = writeAll(Array(text.utf8), to: STDERR_FILENO)
    }

    /// - Returns: 0, or the error number.
    private static func writeAll(_ bytes: [UInt8], to descriptor: CInt) -> CInt {
        bytes.withUnsafeBytes { buffer in
            var offset = 0
            while offset < buffer.count {
                let count = Glibc.write(descriptor, buffer.baseAddress.map { $0 + offset }, buffer.count - offset)
                if count >= 0 {
                    offset += count
                } else if errno == EAGAIN {  // somebody made it non-blocking
                    var wish = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    if poll(&wish, 1, 1_000) <= 0 { return EAGAIN }
                } else if errno != EINTR {
                    return errno
                }
            }
            return 0
        }
    }
}

/// The environment's variables.
package enum Environment {
    /// The variable's text; nil when it is not set.
    package static func text(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
}
