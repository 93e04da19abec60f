import Bytes
import Glibc
import LinuxIO

/// What opening a partition found besides whole records; for the log of whoever opens it.
package struct TelemetryFindings: Equatable, Sendable {
    package var partition: Int
    /// Bytes of a write that was never acknowledged, cut from the end.
    package var tornBytes = 0
    /// Parts in the newest segment, or at the end, that were written and are lost.
    package var damage: [TelemetryDamage] = []
    /// The newest segment's index was missing or wrong and was made anew.
    package var hasRebuiltIndex = false

    package init(partition: Int) { self.partition = partition }

    /// Nothing to speak of.
    package var isClean: Bool { tornBytes == 0 && damage.isEmpty && !hasRebuiltIndex }
}

/// A segment as the catalogue of a partition knows it.
struct SegmentEntry: Equatable, Sendable {
    var base: UInt64
    /// The sequence number of its first record; nil when its header is damaged.
    var sequence: UInt64?
    /// No record in it is older, and none in the segment before it is newer; milliseconds since 1970.
    var milliseconds: Int64
}

/// Finds the end of a partition as a crash, or an orderly end, has left it.
///
/// A record that is not whole at the end of the newest segment is torn: its writer never heard that it is durable, so it is cut. It is
/// damage, and stays, when something shows that it had become durable: the mark, or a later commit, since commits are made one
/// after the other. Older segments are not looked into.
struct PartitionRecovery {
    private let files: PartitionFiles
    private let disk: Disk
    private let mark: PartitionBounds?
    private(set) var segments: [SegmentEntry] = []
    private(set) var bounds = PartitionBounds()
    private(set) var findings: TelemetryFindings
    /// The newest segment can be written on, from `bounds.end`.
    private(set) var canGoOn = false

    init(_ files: PartitionFiles, _ disk: Disk) throws(TelemetryError) {
        self.files = files
        self.disk = disk
        findings = TelemetryFindings(partition: files.number)
        mark = DurableMark.read(files)?.bounds
        try removeLeftovers()
        try readHeaders()
        bounds.generation = (mark?.generation ?? 0) &+ 1
        bounds.end = TelemetryPosition(offset: 0, sequence: 0)
        bounds.lastMilliseconds = max(mark?.lastMilliseconds ?? 0, segments.last?.milliseconds ?? 0)
        bounds.lastOffset = mark?.lastOffset
        if let newest = segments.last { try recover(newest) } else { continueAtMark(from: .zero, in: files.directory) }
        bounds.begin = beginning()
    }

    private func removeLeftovers() throws(TelemetryError) {
        let names = try at(files.directory) { () throws(SystemError) in try Files.names(in: files.directory) }
        for name in names {
            // A file that was being made, or the index of a segment that retention was removing.
            let isOrphan = name.hasSuffix(".index") && !names.contains(name.dropLast(6) + ".log")
            if name.hasSuffix(".new") || isOrphan { Files.remove("\(files.directory)/\(name)") }
        }
    }

    private mutating func readHeaders() throws(TelemetryError) {
        for base in try files.bases() {
            if let reader = try SegmentReader(files, base: base) {
                segments.append(
                    SegmentEntry(base: base, sequence: reader.header.first.sequence, milliseconds: reader.header.milliseconds))
            } else {
                segments.append(SegmentEntry(base: base, sequence: nil, milliseconds: segments.last?.milliseconds ?? 0))
            }
        }
    }

    private func beginning() -> TelemetryPosition {
        guard let oldest = segments.first else { return bounds.end }
        let sequence = segments.lazy.compactMap(\.sequence).first ?? bounds.end.sequence
        return TelemetryPosition(offset: oldest.base, sequence: min(sequence, bounds.end.sequence))
    }

    /// What is before the mark and is not there is lost; a new segment will begin where the mark ends.
    private mutating func continueAtMark(from known: TelemetryPosition, in path: String) {
        bounds.end = known
        guard let marked = mark?.end, marked.offset > known.offset else { return }
        bounds.end = TelemetryPosition(offset: marked.offset, sequence: max(marked.sequence, known.sequence))
        if marked.sequence > known.sequence {
            findings.damage.append(
                TelemetryDamage(path: path, partition: files.number, offset: known.offset, resumesAt: marked.offset))
        }
    }

    private mutating func recover(_ newest: SegmentEntry) throws(TelemetryError) {
        guard var reader = try SegmentReader(files, base: newest.base) else { return try giveUp(newest) }
        let path = reader.path
        let fileEnd = try reader.fileEnd()
        let hasIndex = try start(&reader, fileEnd)
        var last: (offset: UInt64, record: RecordHeader)?
        loop: while true {
            switch try reader.step(before: fileEnd) {
            case .end: break loop
            case .record(let record):
                last = (reader.offset, record)
                reader.offset += UInt64(record.paddedLength)
            case .damage:
                let offset = reader.offset
                guard try findDurableRecord(&reader, before: fileEnd) else { break loop }
                findings.damage.append(
                    TelemetryDamage(path: path, partition: files.number, offset: offset, resumesAt: reader.offset))
            }
        }
        let end = TelemetryPosition(offset: reader.offset, sequence: last.map { $0.record.sequence + 1 } ?? reader.header.first.sequence)
        if let last {
            bounds.lastOffset = last.offset
            bounds.lastMilliseconds = max(bounds.lastMilliseconds, last.record.milliseconds)
        }
        if !hasIndex, end > reader.header.first {
            findings.hasRebuiltIndex = true
            _ = try SegmentIndex(rebuilding: files, &reader, end: end.offset)
        }
        if let mark, mark.end.offset > end.offset {
            continueAtMark(from: end, in: path)
        } else {
            bounds.end = end
            canGoOn = true
            try cut(path, at: end.offset, header: reader.header)
        }
    }

    /// Puts the reader at the last record that the index knows of: entries are made of what is durable only. False when the index is
    /// lost or wrong, and the reader at the segment's beginning.
    private func start(_ reader: inout SegmentReader, _ end: UInt64) throws(TelemetryError) -> Bool {
        let index = SegmentIndex(files, reader.header)
        if index.isWhole, try index.place(&reader, before: end, where: { _ in true }) { return true }
        reader.offset = reader.header.first.offset
        return false
    }

    /// Moves on to the next record when the bytes at the reader's place had become durable.
    private func findDurableRecord(_ reader: inout SegmentReader, before end: UInt64) throws(TelemetryError) -> Bool {
        let broken = reader.offset
        var next: UInt64?
        defer { if next == nil { reader.offset = broken } }
        var isDurable = mark.map { $0.end.offset > broken } ?? false
        var first: UInt64?
        while try reader.findNextRecord(before: end) {
            if first == nil { first = reader.offset }
            if !isDurable, case .record(let record) = try reader.step(before: end) {
                isDurable = reader.offset - min(reader.offset, UInt64(record.commitDistance)) > broken
            }
            if isDurable { break }
        }
        guard isDurable, let first else { return false }
        next = first
        reader.offset = first
        return true
    }

    /// The newest segment's header is damaged: nothing in it can be read, and its records' numbers must not be used again.
    private mutating func giveUp(_ newest: SegmentEntry) throws(TelemetryError) {
        let path = files.segment(newest.base)
        let file = try at(path) { () throws(SystemError) in try PlainFile.open(path, O_RDONLY) }
        let bytes = max(0, try at(path) { () throws(SystemError) in try PlainFile.size(file) } - SegmentHeader.size)
        let before = segments.dropLast().last?.sequence ?? 0
        let most = TelemetryPosition(
            offset: newest.base + UInt64(max(8, RecordHeader.padded(bytes))), sequence: before + UInt64(bytes / RecordHeader.size))
        bounds.end = TelemetryPosition(
            offset: max(most.offset, mark?.end.offset ?? 0), sequence: max(most.sequence, mark?.end.sequence ?? 0))
        findings.damage.append(
            TelemetryDamage(path: path, partition: files.number, offset: newest.base, resumesAt: bounds.end.offset))
    }

    /// Cuts what is after the last record, and makes durable what is before it.
    private mutating func cut(_ path: String, at end: UInt64, header: SegmentHeader) throws(TelemetryError) {
        let file = try at(path) { () throws(SystemError) in try PlainFile.open(path, O_RDWR) }
        let place = SegmentHeader.size + Int(end - header.first.offset)
        let size = try at(path) { () throws(SystemError) in try PlainFile.size(file) }
        if size > place {
            findings.tornBytes = try at(path) { () throws(SystemError) in try Self.written(file, from: place, to: size) }
            try at(path) { () throws(SystemError) in try disk.cut(file, to: place) }
        }
        try at(path) { () throws(SystemError) in try disk.syncAll(file) }
    }

    /// Bytes from `start` to the last that is not zero: zeros are room that was made ahead.
    private static func written(_ file: borrowing OwnedDescriptor, from start: Int, to end: Int) throws(SystemError) -> Int {
        var place = start, count = 0
        while place < end {
            let bytes = try PlainFile.read(file, at: place, count: min(1 << 16, end - place))
            if bytes.isEmpty { break }
            if let last = bytes.lastIndex(where: { $0 != 0 }) { count = place + last + 1 - start }
            place += bytes.count
        }
        return count
    }
}
