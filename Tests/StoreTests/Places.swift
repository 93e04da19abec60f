import Glibc
import LinuxIO
import Store

/// A state directory of its own for each test, removed with it.
final class Place: Sendable {
    let paths: RuntimePaths

    init() throws {
        var template = Array("/tmp/iotstream-store-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        paths = RuntimePaths(state: String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    deinit {
        for directory in [paths.registry, "\(paths.registry).new", paths.run, paths.state] {
            for name in (try? Files.names(in: directory)) ?? [] { unlink("\(directory)/\(name)") }
            rmdir(directory)
        }
    }

    var data: String { "\(paths.registry)/data.mdb" }
    var lock: String { "\(paths.registry)/lock.mdb" }

    func open(_ change: (inout Store.Options) -> Void = { _ in }) throws(StoreError) -> Store {
        var options = Store.Options()
        change(&options)
        return try Store.open(at: paths, options)
    }

    /// Overwrites bytes of a file.
    func poke(_ path: String, at offset: Int, _ bytes: [UInt8]) {
        let file = Glibc.open(path, O_WRONLY)
        defer { close(file) }
        _ = pwrite(file, bytes, bytes.count, off_t(offset))
    }
}

/// An error that is not the store's, for jobs that refuse.
enum JobError: StoreFailure, Equatable {
    case refused, store(StoreError)

    init(store error: StoreError) { self = .store(error) }
}

func put(_ store: Store, _ key: String, _ value: String, _ table: Table = .devices) throws(StoreError) {
    try store.write { transaction throws(StoreError) in try transaction.put(table, key, Array(value.utf8)) }
}

func get(_ store: Store, _ key: String, _ table: Table = .devices) throws(StoreError) -> String? {
    try store.read { transaction throws(StoreError) in try transaction.get(table, key) }.map { String(decoding: $0, as: UTF8.self) }
}
