import Bytes
import Glibc
import LinuxIO

/// The segment that is written to. Its writer's thread alone has it.
struct ActiveSegment: ~Copyable {
    let path: String
    let header: SegmentHeader
    /// After a failed sync nobody knows what of the file is on the disk, so nothing more is written to it.
    private(set) var isSpoilt = false
    /// The end of what is durable, as an offset in the partition.
    private(set) var end: UInt64
    /// The file's bytes, zeros after the records included.
    private var fileBytes: Int
    private let disk: Disk
    private let file: OwnedDescriptor
    private var index: IndexAppender

    /// Bytes of zeros written after a small commit. Overwriting them changes nothing but data, which a disk syncs in half the time or
    /// less than a file that grows.
    static let room = 1 << 17
    /// Bytes of a commit that is small; for larger ones it costs more to write twice than the sync gains.
    private static let small = 1 << 14
    private static let zeros = [UInt8](repeating: 0, count: room)

    /// Makes a new segment, and makes it durable; one of that name, in which nothing durable is, gives way.
    init(creating files: PartitionFiles, _ header: SegmentHeader, disk: Disk) throws(TelemetryError) {
        let path = files.segment(header.first.offset)
        file = try Self.make(path, header, disk)
        index = IndexAppender(files, header, end: header.first.offset)
        self.path = path
        self.header = header
        self.disk = disk
        end = header.first.offset
        fileBytes = SegmentHeader.size
    }

    private static func make(_ path: String, _ header: SegmentHeader, _ disk: Disk) throws(TelemetryError) -> OwnedDescriptor {
        let beside = path + ".new"
        do throws(SystemError) {
            let file = try PlainFile.open(beside, O_RDWR | O_CREAT | O_TRUNC, mode: 0o640)
            try write(header.bytes.span.bytes, to: file, at: 0, disk)
            try disk.syncAll(file)
            guard rename(beside, path) == 0 else { throw SystemError("rename") }
            try Files.syncDirectory(of: path)
            return file
        } catch {
            Files.remove(beside)
            throw TelemetryError(error, path)
        }
    }

    /// Goes on with a segment of which recovery has found the end.
    init(goingOn files: PartitionFiles, base: UInt64, end: UInt64, disk: Disk) throws(TelemetryError) {
        let path = files.segment(base)
        guard let reader = try SegmentReader(files, base: base) else {
            throw .damaged(TelemetryDamage(path: path, partition: files.number, offset: base, resumesAt: end))
        }
        file = try at(path) { () throws(SystemError) in try PlainFile.open(path, O_RDWR) }
        header = reader.header
        index = IndexAppender(files, header, end: end)
        self.path = path
        self.disk = disk
        self.end = end
        fileBytes = SegmentHeader.size + Int(end - base)
    }

    /// Bytes of records.
    var recordBytes: UInt64 { end - header.first.offset }

    /// Writes a commit and makes it durable; after an error the file is as it was, or spoilt.
    ///
    /// - Parameter first: the position and the time of the commit's first record.
    mutating func append(_ bytes: RawSpan, first: SegmentIndex.Entry) throws(TelemetryError) {
        let place = SegmentHeader.size + Int(end - header.first.offset)
        do throws(SystemError) {
            try Self.write(bytes, to: file, at: place, disk)
        } catch {
            fileBytes = max(fileBytes, place + bytes.byteCount)
            forget()
            throw TelemetryError(error, path)
        }
        makeRoom(after: place + bytes.byteCount, isSmall: bytes.byteCount <= Self.small)
        do throws(SystemError) {
            try disk.syncAll(file)
        } catch {
            isSpoilt = true
            forget()
            throw TelemetryError(error, path)
        }
        end += UInt64(bytes.byteCount)
        index.note(first)
    }

    /// Writes zeros after a commit that made the file grow; it does no harm when there is no space for them.
    private mutating func makeRoom(after place: Int, isSmall: Bool) {
        guard place > fileBytes else { return }
        fileBytes = place
        guard isSmall else { return }
        fileBytes += max(0, Self.zeros.withUnsafeBytes { disk.write(file.raw, $0, place) })
    }

    /// Cuts what is not durable.
    private mutating func forget() {
        let durable = SegmentHeader.size + Int(end - header.first.offset)
        do throws(SystemError) {
            try disk.cut(file, to: durable)
            fileBytes = durable
        } catch { isSpoilt = true }
    }

    /// Cuts the zeros at the end, since another segment follows, or the log is closed.
    mutating func finish() {
        let durable = SegmentHeader.size + Int(end - header.first.offset)
        guard !isSpoilt, fileBytes > durable else { return }
        try? disk.cut(file, to: durable)
        fileBytes = durable
    }

    private static func write(
        _ bytes: RawSpan, to file: borrowing OwnedDescriptor, at place: Int, _ disk: Disk
    ) throws(SystemError) {
        let raw = file.raw
        let failure = bytes.withUnsafeBytes { bytes -> SystemError? in
            do throws(SystemError) { try disk.writeAll(bytes, to: raw, at: place) } catch { return error }
            return nil
        }
        if let failure { throw failure }
    }
}

/// Adds to the index of the active segment, which nothing depends on: what cannot be written is left out.
private struct IndexAppender: ~Copyable {
    private let file: OwnedDescriptor
    private let header: SegmentHeader
    private var size: Int
    private var due: UInt64

    /// Keeps the entries that are there for records before `end`.
    init(_ files: PartitionFiles, _ header: SegmentHeader, end: UInt64) {
        self.header = header
        let entries = SegmentIndex(files, header).entries.prefix { $0.position.offset < end }
        size = entries.count * SegmentIndex.entrySize
        due = entries.last.map { $0.position.offset + SegmentIndex.distance } ?? header.first.offset
        file = OwnedDescriptor(
            adopting: open(files.index(header.first.offset), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o640))
        ftruncate(file.raw, off_t(size))
    }

    mutating func note(_ entry: SegmentIndex.Entry) {
        guard entry.position.offset >= due else { return }
        due = entry.position.offset + SegmentIndex.distance
        var bytes = ByteQueue()
        SegmentIndex.write(entry, header, to: &bytes)
        let written = bytes.withBytes { $0.withUnsafeBytes { pwrite(file.raw, $0.baseAddress, $0.count, off_t(size)) } }
        if written == SegmentIndex.entrySize { size += SegmentIndex.entrySize }
    }
}
