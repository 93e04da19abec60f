import CLMDB
import Glibc
import Synchronization

/// The LMDB environment of the registry or of the provisioning service, shared with every other process of this machine that has it open.
///
/// Unchecked Sendable: LMDB's environment may be used by any thread, its handles are set once in `init`,
/// and a change of the map's size has the lock alone.
package final class Store: @unchecked Sendable {
    package enum Access: Sendable { case readWrite, readOnly }

    /// Whose environment it is; a state directory may have both.
    package enum Kind: Sendable {
        case registry, provisioning

        func directory(_ paths: RuntimePaths) -> String { self == .registry ? paths.registry : paths.provisioning }
        /// The schema that this release writes.
        var schema: UInt32 { self == .registry ? Store.schema : 1 }
    }

    /// The longest key in bytes, as LMDB is built by Debian.
    package static let longestKeyBytes = 511

    /// The directory `STATE/registry` or `STATE/provisioning`.
    package let path: String
    package let access: Access
    let environment: OpaquePointer
    let handles: [MDB_dbi]
    private let mapLimitBytes: Int
    private let identity: FileIdentity
    private let mapLock: UnsafeMutablePointer<pthread_rwlock_t>

    init(path: String, access: Access, environment: OpaquePointer, handles: [MDB_dbi], mapLimitBytes: Int, identity: FileIdentity) {
        self.path = path
        self.access = access
        self.environment = environment
        self.handles = handles
        self.mapLimitBytes = mapLimitBytes
        self.identity = identity
        mapLock = .allocate(capacity: 1)
        pthread_rwlock_init(mapLock, nil)
    }

    deinit {
        mdb_env_close(environment)
        pthread_rwlock_destroy(mapLock)
        mapLock.deallocate()
        identity.release()
    }

    /// Runs `body` on one snapshot. Never wait for anything inside: a reader that lingers keeps freed pages from reuse.
    package func read<Result, Failure: StoreFailure>(
        _ body: (borrowing ReadTransaction) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let handle: OpaquePointer
        do { handle = try begin(UInt32(MDB_RDONLY)) } catch { throw Failure(store: error) }
        defer { pthread_rwlock_unlock(mapLock) }
        return try body(ReadTransaction(handle, self))
    }

    /// Runs `body` and makes its changes last; when it throws, nothing was changed.
    ///
    /// `body` may run more than once: it starts over after the map has grown. Blocks while another writer is at work.
    package func write<Result, Failure: StoreFailure>(
        _ body: (borrowing WriteTransaction) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        while true {
            let attempt: Swift.Result<Result, Failure>
            switch try attemptWrite(body) {
            case .done(let result): attempt = .success(result)
            case .refused(let failure): attempt = .failure(failure)
            case .full:
                do { try grow() } catch { throw Failure(store: error) }
                continue
            }
            return try attempt.get()
        }
    }

    private enum Attempt<Result, Failure: Error> { case done(Result), refused(Failure), full }

    private func attemptWrite<Result, Failure: StoreFailure>(
        _ body: (borrowing WriteTransaction) throws(Failure) -> Result
    ) throws(Failure) -> Attempt<Result, Failure> {
        guard access == .readWrite else { throw Failure(store: .readOnly(path: path)) }
        let handle: OpaquePointer
        do { handle = try begin(0) } catch { throw Failure(store: error) }
        defer { pthread_rwlock_unlock(mapLock) }
        let transaction = WriteTransaction(handle, self)
        let result: Result
        do { result = try body(transaction) } catch {
            if case .mapFull = transaction.failure { return .full }
            return .refused(error)
        }
        if let failure = transaction.failure {
            if case .mapFull = failure { return .full }
            return .refused(Failure(store: failure))
        }
        do { try transaction.commit() } catch {
            if case .mapFull = error { return .full }
            return .refused(Failure(store: error))
        }
        return .done(result)
    }

    /// Begins a transaction and leaves the map's lock held for it.
    private func begin(_ flags: UInt32) throws(StoreError) -> OpaquePointer {
        var attempts = 0
        while true {
            pthread_rwlock_rdlock(mapLock)
            var handle: OpaquePointer?
            let code = mdb_txn_begin(environment, nil, flags, &handle)
            if code == 0, let handle { return handle }
            pthread_rwlock_unlock(mapLock)
            attempts += 1
            switch code {
            case MDB_MAP_RESIZED where attempts < 8: try resize(to: 0)  // another process made the map larger: take its size
            case MDB_READERS_FULL where attempts < 2: try clearStaleReaders()
            default: throw error(code, "begin")
            }
        }
    }

    /// Doubles the map, up to the limit.
    private func grow() throws(StoreError) {
        var information = MDB_envinfo()
        try check(mdb_env_info(environment, &information), "info")
        let size = information.me_mapsize
        guard size < mapLimitBytes else { throw error(MDB_MAP_FULL, "write") }
        try resize(to: size > mapLimitBytes / 2 ? mapLimitBytes : size * 2)
    }

    private func resize(to bytes: Int) throws(StoreError) {
        pthread_rwlock_wrlock(mapLock)  // no transaction of this process may be open meanwhile
        defer { pthread_rwlock_unlock(mapLock) }
        try check(mdb_env_set_mapsize(environment, bytes), "resize map")
    }

    /// Frees the reader slots of processes that died, and tells how many there were.
    @discardableResult
    package func clearStaleReaders() throws(StoreError) -> Int {
        var dead: CInt = 0
        try check(mdb_reader_check(environment, &dead), "reader check")
        return Int(dead)
    }

    /// Sizes, for a status page.
    package struct Usage: Equatable, Sendable {
        /// Bytes of address space, and bytes of it that hold pages.
        package var mapBytes, usedBytes: Int
        /// Reader slots taken at the most so far.
        package var readers: Int
    }

    package func usage() throws(StoreError) -> Usage {
        var information = MDB_envinfo()
        var statistics = MDB_stat()
        try check(mdb_env_info(environment, &information), "info")
        try check(mdb_env_stat(environment, &statistics), "info")
        return Usage(
            mapBytes: information.me_mapsize, usedBytes: (information.me_last_pgno + 1) * Int(statistics.ms_psize),
            readers: Int(information.me_numreaders))
    }

    func check(_ code: CInt, _ operation: StaticString) throws(StoreError) {
        guard code != 0 else { return }
        throw error(code, operation)
    }

    func error(_ code: CInt, _ operation: StaticString) -> StoreError {
        StoreError(code, "\(operation)", path: "\(path)/data.mdb", mapLimitBytes: mapLimitBytes)
    }
}

extension StoreError {
    /// LMDB's codes are negative, the system's positive.
    init(_ code: CInt, _ operation: String, path: String, mapLimitBytes: Int = 0) {
        self =
            switch code {
            case MDB_MAP_FULL: .mapFull(path: path, limitBytes: mapLimitBytes)
            case ENOSPC, EDQUOT: .diskFull(path: path)
            case EIO where Self.isDiskFull(path): .diskFull(path: path)  // so LMDB calls a write that stopped half-way
            case EACCES, EPERM: .notPermitted(path: path)
            case EROFS: .readOnly(path: path)
            case MDB_INVALID: .notARegistry(path: path)
            case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_VERSION_MISMATCH, MDB_INCOMPATIBLE:
                .damaged(path: path, reason: "\(operation): \(String(cString: mdb_strerror(code)))")
            case MDB_PANIC: .failed(path: path, operation: operation, reason: "an earlier write broke off in its last step: start again")
            case MDB_READERS_FULL: .tooManyReaders(path: path)
            case MDB_BAD_VALSIZE: .badSize(bytes: 0)
            default: .failed(path: path, operation: operation, reason: String(cString: mdb_strerror(code)))
            }
    }

    /// Whether there is less room than any commit takes.
    private static func isDiskFull(_ path: String) -> Bool {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { return false }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize) < 1 << 20
    }
}
