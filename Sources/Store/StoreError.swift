/// What can go wrong with the registry's files; each case says what was wrong and what to do about it.
package enum StoreError: Error, Equatable, Sendable {
    /// There is no state directory, and none was to be made.
    case missing(path: String)
    /// The user who runs this may not read or write the path.
    case notPermitted(path: String)
    /// The directory of keys may be entered by everybody on the machine; `mode` is its permission bits.
    case openToOthers(path: String, mode: UInt32)
    /// The file system is mounted read-only, or the store was opened for reading.
    case readOnly(path: String)
    /// No space, or no quota, is left on the file system.
    case diskFull(path: String)
    /// The registry has grown to the most that it may.
    case mapFull(path: String, limitBytes: Int)
    /// The file ends before the last page that it speaks of.
    case cutShort(path: String, bytes: Int, expectedBytes: Int)
    /// The file is not LMDB's.
    case notARegistry(path: String)
    /// The file is LMDB's, and its inside contradicts itself.
    case damaged(path: String, reason: String)
    /// A later release has written it.
    case newerSchema(path: String, found: UInt32, known: UInt32)
    /// The lock file was made by another kind of LMDB.
    case lockUnusable(path: String)
    /// This process has it open already: LMDB allows one environment per file and process.
    case alreadyOpen(path: String)
    /// All reader slots are taken.
    case tooManyReaders(path: String)
    /// A key longer than 511 bytes or empty, or a value that does not fit.
    case badSize(bytes: Int)
    /// A system call or LMDB call failed for another reason.
    case failed(path: String, operation: String, reason: String)

    /// The error's sysexits(3) code for a command line.
    package var exitCode: Int32 {
        switch self {
        case .missing: 66
        case .notPermitted, .openToOthers: 77
        case .notARegistry, .damaged, .cutShort, .newerSchema, .badSize: 65
        case .alreadyOpen, .tooManyReaders: 75
        case .readOnly, .diskFull, .mapFull, .lockUnusable, .failed: 74
        }
    }
}

extension StoreError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .missing(let path): "\(path): no such state directory: start a hub there, or name another with --state"
        case .notPermitted(let path): "\(path): permission denied: run as the user that owns it, or with sudo"
        case .openToOthers(let path, let mode):
            "\(path): everybody on this machine may look at its keys (mode 0\(String(mode, radix: 8))): chmod 700 \(path)"
        case .readOnly(let path): "\(path): read-only file system: mount it for writing"
        case .diskFull(let path): "\(path): no space left on the disk: nothing was changed; make room and try again"
        case .mapFull(let path, let limit):
            "\(path): the registry is full at \(limit >> 20) MiB: nothing was changed; delete what is not needed or raise the limit"
        case .cutShort(let path, let bytes, let expected):
            "\(path): cut short (\(bytes) bytes where \(expected) are needed): restore it from a backup"
        case .notARegistry(let path): "\(path): not a registry: restore it from a backup, or move it away to begin with an empty one"
        case .damaged(let path, let reason): "\(path): damaged (\(reason)): restore it from a backup"
        case .newerSchema(let path, let found, let known):
            "\(path): written by a newer release (schema \(found), this one knows \(known)): use that release"
        case .lockUnusable(let path): "\(path): made by another kind of LMDB: stop every iotstream process, then remove it"
        case .alreadyOpen(let path): "\(path): already open in this process"
        case .tooManyReaders(let path): "\(path): too many processes read it at once: try again"
        case .badSize(let bytes): "a key or value of \(bytes) bytes does not fit into the registry"
        case .failed(let path, let operation, let reason): "\(path): \(operation): \(reason)"
        }
    }
}

/// An error of an upper room that can carry one of the store's.
package protocol StoreFailure: Error {
    init(store error: StoreError)
}

extension StoreError: StoreFailure {
    package init(store error: StoreError) { self = error }
}
