import Bytes
import CLinux
import Glibc
import LinuxIO
import Wire

extension BlobDirectory {
    /// Where a block's bytes are.
    private enum Source {
        case file(String, size: Int)
        /// In the file that is there.
        case part(Range<Int>)

        var size: Int {
            switch self {
            case .file(_, let size): size
            case .part(let range): range.count
            }
        }
    }

    /// Makes a file of blocks, and drops the others that were put for it. Waits for the disk, as long as it takes to copy them.
    package func assemble(
        _ list: BlockList, as name: BlobName, conditions: BlobConditions, fields: BlobFields = BlobFields(), within limits: BlobLimits
    ) throws(BlobError) -> BlobProperties {
        guard ledger.isCounted else { throw .notReady }
        let existing = try properties(of: name)
        try conditions.checkWriting(over: existing)
        let sources = try find(list, of: name, existing)
        var size = 0
        for source in sources {
            guard source.size <= limits.fileBytes - size else { throw .fileTooLarge(limit: limits.fileBytes) }
            size += source.size
        }
        let path = "\(partial)/\(Hex.encode([UInt8].random(count: 16)))"
        let file = try Self.create(path)
        do throws(BlobError) {
            try copy(sources, from: existing == nil ? nil : self.file(name), to: file)
            try fields.keep(with: file)
            let properties = try Self.sync(file)
            guard properties.size == size else { throw .noSuchBlock }
            let blocks = zip(list.entries, sources).map { (id: $0.id, size: $1.size) }
            try recounting(for: name.device) { () throws(BlobError) in
                try place(
                    path, as: name, size: size, reserved: 0, conditions: conditions, limits: limits,
                    map: blocks.isEmpty ? nil : BlockMap(etag: properties.etag, blocks: blocks))
            }
            return properties
        } catch {
            unlink(path)
            throw error
        }
    }

    private func find(_ list: BlockList, of name: BlobName, _ existing: BlobProperties?) throws(BlobError) -> [Source] {
        let directory = blocks(of: name)
        let wantsOld = list.entries.contains { $0.place != .uncommitted }
        let old = wantsOld ? BlockMap.places(in: directory, of: existing) : [:]
        var found: [Source] = []
        for entry in list.entries {
            var source = old[entry.id].map { Source.part($0) }
            if entry.place != .committed {
                var status = stat()
                let path = "\(directory)/\(entry.id.hex)"
                if lstat(path, &status) == 0 {
                    source = .file(path, size: Int(status.st_size))
                } else if entry.place == .uncommitted {
                    source = nil
                }
            }
            guard let source else { throw .noSuchBlock }
            found.append(source)
        }
        return found
    }

    private func copy(_ sources: [Source], from existing: String?, to file: borrowing OwnedDescriptor) throws(BlobError) {
        var old: OwnedDescriptor?
        for source in sources {
            switch source {
            case .file(let path, let size):
                let block = try Self.open(path)
                try Self.copy(0..<size, of: block, to: file)
            case .part(let range):
                if old == nil, let existing { old = try Self.open(existing) }
                switch old {
                case .some(let old): try Self.copy(range, of: old, to: file)
                case .none: throw .noSuchBlock
                }
            }
        }
    }

    private static func open(_ path: String) throws(BlobError) -> OwnedDescriptor {
        let raw = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard raw >= 0 else { throw errno == ENOENT ? .noSuchBlock : BlobError(SystemError("open")) }
        return OwnedDescriptor(adopting: raw)
    }

    private static func copy(
        _ range: Range<Int>, of source: borrowing OwnedDescriptor, to file: borrowing OwnedDescriptor
    ) throws(BlobError) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let copied = clx_copy(source.raw, Int64(offset), file.raw, range.upperBound - offset)
            if copied == -Int(EINTR) { continue }
            guard copied >= 0 else { throw BlobError(SystemError("copy_file_range", CInt(clamping: -copied))) }
            guard copied > 0 else { throw .noSuchBlock }  // it has become shorter meanwhile
            offset += copied
        }
    }
}
