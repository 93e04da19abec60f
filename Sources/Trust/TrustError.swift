import Glibc
import LinuxIO
import TLS

/// Why one end of a stream cannot show who it is, or does not believe the other: one line for the person, and what to do about it.
package struct TrustError: Error, Equatable, CustomStringConvertible {
    /// What kind of trouble it is; decides a command's exit status.
    package enum Kind: Sendable, Equatable {
        /// The other end is not who it has to be: changed key, certificate of nobody we trust. Nobody connects.
        case untrusted
        /// A file of ours is there and cannot be understood.
        case malformed
        /// A secret that others may read, or a list that others may write.
        case openToOthers
        /// The system refused; an errno value.
        case system(CInt)
        /// There is no place for the files.
        case homeless
    }

    package let kind: Kind
    /// Lower case, no full stop, without secrets.
    package let what: String
    /// What to do about it; may be empty.
    package let remedy: String

    package init(_ kind: Kind, _ what: String, _ remedy: String = "") {
        self.kind = kind
        self.what = what
        self.remedy = remedy
    }

    init(_ error: SystemError, _ path: String, _ remedy: String = "") {
        self.init(.system(error.number), "\(path): \(error.reason)", remedy)
    }

    /// The exit status of a command that ends for it, sysexits(3).
    package var exitStatus: CInt {
        switch kind {
        case .untrusted: 1
        case .malformed: EX_DATAERR
        case .openToOthers: EX_NOPERM
        case .homeless: EX_CONFIG
        case .system(let number):
            switch number {
            case ENOENT, ENOTDIR: EX_NOINPUT
            case EACCES, EPERM: EX_NOPERM
            case EROFS, EEXIST, EISDIR: EX_CANTCREAT
            default: EX_IOERR
            }
        }
    }

    /// Both halves in one line.
    package var description: String { remedy.isEmpty ? what : "\(what): \(remedy)" }
}
