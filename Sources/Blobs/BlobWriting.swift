import Bytes
import Glibc
import LinuxIO
import Synchronization
import Wire

/// A file or a block on its way into the directory. Its pieces are written one after the other, by whichever thread; what is not
/// finished is gone when its owner is.
package final class BlobWriting: Sendable {
    package enum Target: Sendable {
        /// The whole file at once.
        case file(BlobConditions, BlobFields = BlobFields())
        /// A block of it.
        case block(BlockID)
    }

    private struct State: ~Copyable {
        var file: OwnedDescriptor?
        var path = ""
        var written = 0
        var reserved = 0
        var digest: ContentDigest
        var isOver = false
    }

    private let directory: BlobDirectory
    private let name: BlobName
    private let target: Target
    private let limits: BlobLimits
    private let announced: Int?
    private let state: Mutex<State>

    /// - Parameter announced: how many bytes will come; nil when nobody has said so. Not more come than were announced.
    package init(
        _ target: Target, of name: BlobName, in directory: BlobDirectory, announced: Int?, digest: consuming ContentDigest,
        within limits: BlobLimits
    ) {
        self.directory = directory
        self.name = name
        self.target = target
        self.limits = limits
        self.announced = announced
        state = Mutex(State(digest: digest))
    }

    deinit { abandon() }

    /// Writes a piece. Waits for the disk.
    package func write(_ bytes: [UInt8]) throws(BlobError) {
        try state.withLock { state throws(BlobError) in
            try begin(&state)
            let total = state.written + bytes.count
            guard total <= limits.fileBytes else { throw .fileTooLarge(limit: limits.fileBytes) }
            try reserve(BlobLedger.charge(total), &state)
            state.digest.update(bytes.span.bytes)
            if state.file != nil { try Self.write(bytes, to: state.file) }
            state.written = total
        }
    }

    /// Makes what was written a file, or a block: checks it, makes it last, and gives it its name.
    package func finish() throws(BlobError) -> BlobProperties {
        try state.withLock { state throws(BlobError) in
            try begin(&state)
            try state.digest.check()
            if case .file(_, let fields) = target { try Self.keep(fields, with: state.file) }
            let properties = try Self.sync(state.file)
            switch target {
            case .file(let conditions, _):
                try directory.place(
                    state.path, as: name, size: state.written, reserved: state.reserved, conditions: conditions, limits: limits)
            case .block(let id): try directory.place(state.path, asBlock: id, of: name, size: state.written, reserved: state.reserved)
            }
            state.reserved = 0
            state.isOver = true
            state.file = nil
            return properties
        }
    }

    /// Removes what was written. Waits for a piece that is just being written.
    package func abandon() {
        state.withLock { state in
            guard !state.isOver else { return }
            state.isOver = true
            if !state.path.isEmpty { unlink(state.path) }
            state.file = nil
            directory.ledger.settle(reserved: state.reserved, grown: 0, of: name.device)
            state.reserved = 0
        }
    }

    /// Opens the file, before the first piece.
    private func begin(_ state: inout State) throws(BlobError) {
        guard !state.isOver else { throw .notFound }
        guard state.path.isEmpty else { return }
        guard directory.ledger.isCounted else { throw .notReady }
        if let announced {
            guard announced <= limits.fileBytes else { throw .fileTooLarge(limit: limits.fileBytes) }
            try reserve(BlobLedger.charge(announced), &state)
        }
        if case .file(let conditions, _) = target { try conditions.checkWriting(over: try directory.properties(of: name)) }
        let path = "\(directory.partial)/\(Hex.encode([UInt8].random(count: 16)))"
        state.file = try BlobDirectory.create(path)
        state.path = path
    }

    private func reserve(_ bytes: Int, _ state: inout State) throws(BlobError) {
        let more = bytes - state.reserved
        guard more > 0 else { return }
        try directory.recounting(for: name.device) { () throws(BlobError) in
            try directory.ledger.reserve(more, for: name.device, within: limits)
        }
        state.reserved = bytes
    }

    private static func write(_ bytes: [UInt8], to file: borrowing OwnedDescriptor?) throws(BlobError) {
        switch file {
        case .some(let file): do { try Files.writeAll(bytes, to: file) } catch { throw BlobError(error) }
        case .none: throw .notFound
        }
    }

    private static func keep(_ fields: BlobFields, with file: borrowing OwnedDescriptor?) throws(BlobError) {
        switch file {
        case .some(let file): try fields.keep(with: file)
        case .none: throw .notFound
        }
    }

    private static func sync(_ file: borrowing OwnedDescriptor?) throws(BlobError) -> BlobProperties {
        switch file {
        case .some(let file): return try BlobDirectory.sync(file)
        case .none: throw .notFound
        }
    }
}

extension BlobDirectory {
    /// A file of nobody's yet, to be written.
    static func create(_ path: String) throws(BlobError) -> OwnedDescriptor {
        let raw = Glibc.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { throw BlobError(SystemError("open")) }
        return OwnedDescriptor(adopting: raw)
    }

    /// Makes a file's bytes last.
    static func sync(_ file: borrowing OwnedDescriptor) throws(BlobError) -> BlobProperties {
        var status = stat()
        guard fsync(file.raw) == 0 else { throw BlobError(SystemError("fsync")) }
        guard fstat(file.raw, &status) == 0 else { throw BlobError(SystemError("fstat")) }
        return BlobProperties(status)
    }

    /// Gives a file in `.partial` its name, in the place of another, and drops the blocks that were put for it.
    ///
    /// - Parameters:
    ///   - reserved: what was set aside for it; given back or counted.
    ///   - map: what the file is made of, if it is made of blocks.
    func place(
        _ partial: String, as name: BlobName, size: Int, reserved: Int, conditions: BlobConditions, limits: BlobLimits, map: BlockMap? = nil
    ) throws(BlobError) {
        let target = file(name), blocks = blocks(of: name)
        let made = try makeDirectories(Self.parent(of: target), for: name.device)
        let kept = map.map { BlobLedger.charge($0.text.utf8.count) + BlobLedger.directoryCharge } ?? 0
        try naming.withLock { _ throws(BlobError) in
            let existing = try properties(of: name)
            try conditions.checkWriting(over: existing)
            let old = (existing.map { BlobLedger.charge($0.size) } ?? 0) + measureBlocks(blocks)
            let grown = BlobLedger.charge(size) + made * BlobLedger.directoryCharge + kept - old
            try ledger.settle(reserved: reserved, grown: grown, of: name.device, within: limits)
            guard rename(partial, target) == 0 else {
                let error = SystemError("rename")
                ledger.settle(reserved: -reserved, grown: -grown, of: name.device)
                throw BlobError(error)
            }
            _ = removeDirectory(blocks)
            map?.write(in: blocks, of: blockHome(of: name.device))
        }
        do { try Files.syncDirectory(of: target) } catch { throw BlobError(error) }
    }

    private func measureBlocks(_ directory: String) -> Int {
        guard let names = try? Files.names(in: directory) else { return 0 }
        return names.reduce(BlobLedger.directoryCharge) { total, name in
            var status = stat()
            return lstat("\(directory)/\(name)", &status) == 0 ? total + BlobLedger.charge(Int(status.st_size)) : total
        }
    }

    /// Gives a block its name, in the place of another.
    func place(_ partial: String, asBlock id: BlockID, of name: BlobName, size: Int, reserved: Int) throws(BlobError) {
        let home = blockHome(of: name.device), directory = blocks(of: name), target = "\(directory)/\(id.hex)"
        try naming.withLock { _ throws(BlobError) in
            _ = mkdir(home, 0o700)
            let isNew = mkdir(directory, 0o700) == 0
            var status = stat()
            let old = lstat(target, &status) == 0 ? BlobLedger.charge(Int(status.st_size)) : 0
            guard rename(partial, target) == 0 else { throw BlobError(SystemError("rename")) }
            let grown = BlobLedger.charge(size) + (isNew ? BlobLedger.directoryCharge : 0) - old
            ledger.settle(reserved: reserved, grown: grown, of: name.device)
        }
        do { try Files.syncDirectory(of: target) } catch {
            // Its blocks have become a file meanwhile.
            guard error.number == ENOENT else { throw BlobError(error) }
        }
    }
}
