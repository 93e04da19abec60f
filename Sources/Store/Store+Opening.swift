import CLMDB
import Glibc
import LinuxIO

extension Store {
    /// How the registry is opened.
    package struct Options: Sendable {
        package var kind = Kind.registry
        package var access = Access.readWrite
        /// Makes the state directory and an empty registry when there is none; else that is `StoreError.missing`.
        package var create = true
        /// Address space to begin with, in bytes; it doubles when full.
        package var mapBytes = 1 << 30
        /// The most that it grows to, in bytes.
        package var mapLimitBytes = 1 << 36
        /// Visits every page of the file first: for a hub's start, not for each command.
        package var everyPage = false

        package init() {}
    }

    /// The schema that this release writes.
    package static let schema: UInt32 = 7

    /// Opens the registry of a state directory, one time per process and path.
    ///
    /// Directories are made 0700 and files 0600. A new registry appears whole, by a rename, so an empty or half-made
    /// file is always damage.
    package static func open(at paths: RuntimePaths, _ options: Options = Options()) throws(StoreError) -> Store {
        if options.create, options.access == .readWrite {
            do { try Files.makeDirectory(paths.state) } catch { throw StoreError(error.number, error.call, path: paths.state) }
        }
        let lock = try DirectoryLock(paths.state)
        defer { extendLifetime(lock) }  // held until the schema is settled
        let directory = options.kind.directory(paths)
        if try !exists(directory) {
            guard options.create, options.access == .readWrite else { throw .missing(path: directory) }
            try makeRegistry(paths, options)
        }
        return try openExisting(directory, options)
    }

    private static func openExisting(_ path: String, _ options: Options) throws(StoreError) -> Store {
        let status = try FileIdentity.status(of: path)
        guard status.st_mode & 0o007 == 0 else { throw .openToOthers(path: path, mode: UInt32(status.st_mode & 0o777)) }
        let data = "\(path)/data.mdb"
        let file = try DataFile(path: data)
        _ = try file.meta()
        let needed = options.access == .readWrite ? R_OK | W_OK : R_OK
        guard Glibc.access(data, needed) == 0 else { throw StoreError(errno, "open", path: data) }
        guard let identity = try FileIdentity.claim(path) else { throw .alreadyOpen(path: path) }
        do { return try openClaimed(path, options, file, identity) } catch {
            identity.release()
            throw error
        }
    }

    private static func openClaimed(
        _ path: String, _ options: Options, _ file: borrowing DataFile, _ identity: FileIdentity
    ) throws(StoreError) -> Store {
        let environment = try openEnvironment(path, options)
        do {
            var dead: CInt = 0
            mdb_reader_check(environment, &dead)
            let handles = try openTables(environment, path, options, file)
            return Store(
                path: path, access: options.access, environment: environment, handles: handles, mapLimitBytes: options.mapLimitBytes,
                identity: identity)
        } catch {
            mdb_env_close(environment)
            throw error
        }
    }

    private static func openEnvironment(_ path: String, _ options: Options) throws(StoreError) -> OpaquePointer {
        var environment: OpaquePointer?
        var code = mdb_env_create(&environment)
        guard code == 0, let environment else { throw StoreError(code, "create", path: path) }
        do { try reserveLock("\(path)/lock.mdb", options) } catch {
            mdb_env_close(environment)
            throw error
        }
        code = mdb_env_set_maxdbs(environment, 32)
        if code == 0 { code = mdb_env_set_maxreaders(environment, mostReaders) }
        if code == 0 { code = mdb_env_set_mapsize(environment, options.mapBytes) }
        let readOnly = options.access == .readOnly ? UInt32(MDB_RDONLY) : 0
        if code == 0 { code = mdb_env_open(environment, path, UInt32(MDB_NOTLS) | readOnly, 0o600) }
        guard code == 0 else {
            mdb_env_close(environment)
            switch code {  // the data file was looked at before, so this is about the lock
            case MDB_INVALID, MDB_VERSION_MISMATCH: throw .lockUnusable(path: "\(path)/lock.mdb")
            default: throw StoreError(code, "open", path: path)
            }
        }
        return environment
    }

    /// Reader slots, shared by all processes.
    private static let mostReaders: UInt32 = 510
    /// Bytes of LMDB's lock file for so many slots: 64 to each, and two more for the head.
    private static let lockBytes = (Int(mostReaders) + 2) * 64

    /// Makes the disk's blocks of the lock file real: LMDB maps it with holes, and on a full disk the first touch of a
    /// hole would end the process by SIGBUS. Call while this process has no environment there: closing the descriptor
    /// would drop its locks.
    private static func reserveLock(_ path: String, _ options: Options) throws(StoreError) {
        let raw = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard raw >= 0 else {
            if options.access == .readOnly || errno == EROFS { return }  // LMDB knows what to do without
            throw StoreError(errno, "open", path: path)
        }
        let file = OwnedDescriptor(adopting: raw)
        var status = stat()
        guard fstat(file.raw, &status) == 0 else { throw StoreError(errno, "stat", path: path) }
        // The size of a file that is in use stays: every process must agree on the number of slots.
        let bytes = status.st_size == 0 ? lockBytes : Int(status.st_size)
        guard Int(status.st_blocks) * 512 < bytes else { return }
        let code = posix_fallocate(file.raw, 0, off_t(bytes))
        guard code == 0 || code == EOPNOTSUPP || code == EINVAL else { throw StoreError(code, "allocate", path: path) }
    }

    /// Opens every table and settles the schema.
    private static func openTables(
        _ environment: OpaquePointer, _ path: String, _ options: Options, _ file: borrowing DataFile
    ) throws(StoreError) -> [MDB_dbi] {
        func check(_ code: CInt, _ operation: String) throws(StoreError) {
            guard code != 0 else { return }
            throw StoreError(code, operation, path: "\(path)/data.mdb", mapLimitBytes: options.mapLimitBytes)
        }
        let data = "\(path)/data.mdb"
        var reader: OpaquePointer?
        try check(mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &reader), "begin")
        do throws(StoreError) {
            try file.verify(everyPage: options.everyPage)
            let found = try readSchema(reader, data)
            let schema = options.kind.schema
            if let found, found > schema { throw StoreError.newerSchema(path: data, found: found, known: schema) }
            if found == schema {
                let handles = try openTables(of: options.kind, reader, 0, data)
                try check(mdb_txn_commit(reader), "commit")  // a commit is what keeps the handles
                return handles
            }
        } catch {
            mdb_txn_abort(reader)
            throw error
        }
        mdb_txn_abort(reader)
        guard options.access == .readWrite else { throw .damaged(path: data, reason: "no schema") }
        return try makeTables(environment, data, options.kind)
    }

    private static func readSchema(_ transaction: OpaquePointer?, _ path: String) throws(StoreError) -> UInt32? {
        var meta: MDB_dbi = 0
        var code = mdb_dbi_open(transaction, Table.meta.name, 0, &meta)
        guard code != MDB_NOTFOUND else { return nil }
        guard code == 0 else { throw StoreError(code, "open table", path: path) }
        var value = MDB_val()
        var name = Array("schema".utf8)
        code = name.withUnsafeMutableBytes { pointer in
            var key = MDB_val(mv_size: pointer.count, mv_data: pointer.baseAddress)
            return mdb_get(transaction, meta, &key, &value)
        }
        guard code != MDB_NOTFOUND else { return nil }
        guard code == 0 else { throw StoreError(code, "read schema", path: path) }
        guard value.mv_size == 8 else { throw .damaged(path: path, reason: "schema") }
        let number = UnsafeRawBufferPointer(start: value.mv_data, count: 8).bytes.bigEndian(at: 0, as: UInt64.self)
        return UInt32(clamping: number)
    }

    private static func openTable(
        _ transaction: OpaquePointer?, _ table: Table, _ flags: CInt, _ path: String
    ) throws(StoreError) -> MDB_dbi {
        var handle: MDB_dbi = 0
        let code = mdb_dbi_open(transaction, table.name, UInt32(flags), &handle)
        guard code != MDB_NOTFOUND else { throw .damaged(path: path, reason: "table \(table.name) is missing") }
        guard code == 0 else { throw StoreError(code, "open table", path: path) }
        return handle
    }

    /// The handle of each table, at its place; tables of other kinds have one that LMDB refuses.
    private static func openTables(
        of kind: Kind, _ transaction: OpaquePointer?, _ flags: CInt, _ path: String
    ) throws(StoreError) -> [MDB_dbi] {
        var handles = [MDB_dbi](repeating: .max, count: Table.allCases.count)
        for table in Table.all(of: kind) { handles[table.rawValue] = try openTable(transaction, table, flags, path) }
        return handles
    }

    /// Makes the tables that are missing and writes the schema: a new registry's, or an older one's way to this release.
    private static func makeTables(_ environment: OpaquePointer, _ path: String, _ kind: Kind) throws(StoreError) -> [MDB_dbi] {
        var writer: OpaquePointer?
        var code = mdb_txn_begin(environment, nil, 0, &writer)
        guard code == 0 else { throw StoreError(code, "begin", path: path) }
        let handles: [MDB_dbi]
        do {
            handles = try openTables(of: kind, writer, MDB_CREATE, path)
        } catch {
            mdb_txn_abort(writer)
            throw error
        }
        // A later schema converts its records here, in this same transaction.
        var name = Array("schema".utf8)
        var value = withUnsafeBytes(of: UInt64(kind.schema).bigEndian) { Array($0) }
        code = name.withUnsafeMutableBytes { name in
            value.withUnsafeMutableBytes { value in
                var key = MDB_val(mv_size: name.count, mv_data: name.baseAddress)
                var data = MDB_val(mv_size: value.count, mv_data: value.baseAddress)
                return mdb_put(writer, handles[Table.meta.rawValue], &key, &data, 0)
            }
        }
        guard code == 0 else {
            mdb_txn_abort(writer)
            throw StoreError(code, "write schema", path: path)
        }
        code = mdb_txn_commit(writer)
        guard code == 0 else { throw StoreError(code, "commit", path: path) }
        return handles
    }
}

// MARK: - A new registry

extension Store {
    /// Makes an empty registry beside its place and renames it.
    private static func makeRegistry(_ paths: RuntimePaths, _ options: Options) throws(StoreError) {
        let directory = options.kind.directory(paths), beside = "\(directory).new"
        for name in ["data.mdb", "lock.mdb"] { unlink("\(beside)/\(name)") }
        rmdir(beside)
        guard mkdir(beside, 0o700) == 0 else { throw StoreError(errno, "mkdir", path: beside) }
        let environment = try openEnvironment(beside, options)
        do { _ = try makeTables(environment, beside, options.kind) } catch {
            mdb_env_close(environment)
            throw error
        }
        mdb_env_close(environment)
        try adopt(beside, from: paths.state)
        guard rename(beside, directory) == 0 else { throw StoreError(errno, "rename", path: directory) }
        do { try Files.syncDirectory(of: directory) } catch { throw StoreError(error.number, error.call, path: paths.state) }
    }

    /// When root makes a registry in another user's state directory, it becomes that user's.
    private static func adopt(_ path: String, from state: String) throws(StoreError) {
        let owner = try FileIdentity.status(of: state)
        guard geteuid() == 0, owner.st_uid != 0 else { return }
        for path in [path, "\(path)/data.mdb", "\(path)/lock.mdb"] where lchown(path, owner.st_uid, owner.st_gid) != 0 {
            throw StoreError(errno, "chown", path: path)
        }
    }

    /// Whether there is a registry; an empty directory is none.
    private static func exists(_ path: String) throws(StoreError) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0 else {
            guard errno == ENOENT else { throw StoreError(errno, "stat", path: path) }
            return false
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw .notARegistry(path: path) }
        if stat("\(path)/data.mdb", &status) == 0 { return true }
        guard errno == ENOENT else { throw StoreError(errno, "stat", path: path) }
        return rmdir(path) != 0 && errno != ENOENT
    }
}

/// The state directory, locked while a registry is made or opened: two first starts at once make one registry.
private struct DirectoryLock: ~Copyable {
    private let descriptor: OwnedDescriptor

    init(_ path: String) throws(StoreError) {
        let raw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { throw errno == ENOENT ? .missing(path: path) : StoreError(errno, "open", path: path) }
        descriptor = OwnedDescriptor(adopting: raw)
        while flock(raw, LOCK_EX) != 0, errno == EINTR {}
    }
}
