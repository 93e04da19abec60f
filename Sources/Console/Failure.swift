import Glibc

/// Why a command ends without success: one line for the person, one number for the shell (sysexits(3)).
package struct Failure: Error, Equatable, Sendable {
    /// The process's exit status, 1–255.
    package let exitCode: CInt
    /// What was wrong: lower case, no full stop, never a secret. Empty: nothing is printed (a child has said it already).
    package let what: String
    /// What to do about it; may be empty.
    package let remedy: String

    package init(exitCode: CInt, _ what: String, _ remedy: String = "") {
        self.exitCode = exitCode
        self.what = what
        self.remedy = remedy
    }

    /// 1: the operation was understood, and refused or failed.
    package static func refused(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: 1, what, remedy) }
    /// 64: the command line is wrong.
    package static func usage(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_USAGE, what, remedy) }
    /// 65: the input is there and is wrong.
    package static func data(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_DATAERR, what, remedy) }
    /// 66: the input is missing.
    package static func noInput(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_NOINPUT, what, remedy) }
    /// 69: the hub cannot be reached.
    package static func unreachable(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_UNAVAILABLE, what, remedy) }
    /// 70: a mistake of this program.
    package static func software(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_SOFTWARE, what, remedy) }
    /// 71: the operating system said no.
    package static func system(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_OSERR, what, remedy) }
    /// 73: an output (a file, a listening port) cannot be made.
    package static func cannotCreate(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_CANTCREAT, what, remedy) }
    /// 74: reading or writing failed.
    package static func io(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_IOERR, what, remedy) }
    /// 75: may work later.
    package static func tryAgain(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_TEMPFAIL, what, remedy) }
    /// 77: not permitted.
    package static func notPermitted(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_NOPERM, what, remedy) }
    /// 78: the configuration is wrong.
    package static func config(_ what: String, _ remedy: String = "") -> Failure { Failure(exitCode: EX_CONFIG, what, remedy) }
    /// 78: the configuration file is wrong at `line` (from 1).
    package static func config(path: String, line: Int, reason: String, _ remedy: String = "") -> Failure {
        config("\(path):\(line): \(reason)", remedy)
    }
    /// Ends the process with the status of a child that has spoken for itself.
    package static func silent(exitCode: CInt) -> Failure { Failure(exitCode: exitCode, "") }

    /// A failed system call on something with a name; errno's meaning picks the exit code.
    ///
    /// - Parameter subject: what it was about, as the person knows it: a path, an address.
    package static func errno(_ code: CInt, _ subject: String, _ remedy: String = "") -> Failure {
        let exitCode: CInt =
            switch code {
            case ENOENT, ENOTDIR: EX_NOINPUT
            case EACCES, EPERM: EX_NOPERM
            case EEXIST, EROFS, EADDRINUSE, EADDRNOTAVAIL, EISDIR: EX_CANTCREAT
            case ENOSPC, EDQUOT, EIO, EPIPE, EFBIG: EX_IOERR
            case ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ECONNRESET: EX_UNAVAILABLE
            case EAGAIN, EMFILE, ENFILE, ENOMEM, EINTR: EX_TEMPFAIL
            default: EX_OSERR
            }
        return Failure(exitCode: exitCode, "\(subject): \(describe(errno: code))", remedy)
    }

    /// The system's words for an error number, in lower case to stand inside a line.
    package static func describe(errno code: CInt) -> String {
        guard let text = strerror(code) else { return "error \(code)" }
        return String(cString: text).lowercased()
    }

    /// The line on standard error: `iotstream ROLE: what was wrong: what to do about it`.
    package func line(role: String) -> String {
        let subject = role.isEmpty ? "iotstream" : "iotstream \(role)"
        return Printable.oneLine(remedy.isEmpty ? "\(subject): \(what)" : "\(subject): \(what): \(remedy)")
    }
}
