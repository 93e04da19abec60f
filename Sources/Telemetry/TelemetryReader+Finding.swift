extension TelemetryReader {
    /// The position that a start means, for the bounds as they are.
    static func find(
        _ start: TelemetryStart, _ files: PartitionFiles, _ bounds: PartitionBounds
    ) throws(TelemetryError) -> TelemetryPosition {
        switch start {
        case .earliest: return bounds.begin
        case .latest: return bounds.end
        case .position(let position): return position
        case .offset(let offset, let inclusive):
            return try find(files, bounds) { inclusive ? $0.position.offset < offset : $0.position.offset <= offset }
        case .sequence(let sequence, let inclusive):
            let wanted = inclusive || sequence == .max ? sequence : sequence + 1
            // What retention has removed counts as missed.
            if wanted < bounds.begin.sequence { return TelemetryPosition(offset: 0, sequence: wanted) }
            return try find(files, bounds) { $0.position.sequence < wanted }
        case .time(let milliseconds, let inclusive):
            return try find(files, bounds) { inclusive ? $0.milliseconds < milliseconds : $0.milliseconds <= milliseconds }
        }
    }

    /// The first record for which `isBefore` does not hold, which holds for all before that one; the end when it holds for all.
    private static func find(
        _ files: PartitionFiles, _ bounds: PartitionBounds, where isBefore: (SegmentIndex.Entry) -> Bool
    ) throws(TelemetryError) -> TelemetryPosition {
        let bases = try files.bases().filter { $0 >= bounds.begin.offset && $0 < bounds.end.offset }
        // From the newest segment back to one whose beginning is before the place: it may end there, and then the next begins there.
        var found = bounds.end
        for (index, base) in bases.enumerated().reversed() {
            let end = index + 1 < bases.count ? bases[index + 1] : bounds.end.offset
            guard var segment = try open(files, base) else { continue }
            let first = SegmentIndex.Entry(position: segment.header.first, milliseconds: segment.header.milliseconds)
            guard isBefore(first) || index == 0 else {
                found = segment.header.first
                continue
            }
            return try find(&segment, files, end, where: isBefore) ?? found
        }
        return found
    }

    /// Nil for a segment that cannot be read, or that retention has just removed.
    private static func open(_ files: PartitionFiles, _ base: UInt64) throws(TelemetryError) -> SegmentReader? {
        do throws(TelemetryError) { return try SegmentReader(files, base: base) } catch {
            guard error.isMissingFile else { throw error }
            return nil
        }
    }

    private static func find(
        _ segment: inout SegmentReader, _ files: PartitionFiles, _ end: UInt64, where isBefore: (SegmentIndex.Entry) -> Bool
    ) throws(TelemetryError) -> TelemetryPosition? {
        _ = try SegmentIndex(files, segment.header).place(&segment, before: end, where: isBefore)
        while true {
            switch try segment.step(before: end) {
            case .end: return nil
            case .damage: guard try segment.findNextRecord(before: end) else { return nil }
            case .record(let record):
                let position = TelemetryPosition(offset: segment.offset, sequence: record.sequence)
                guard isBefore(SegmentIndex.Entry(position: position, milliseconds: record.milliseconds)) else { return position }
                segment.offset += UInt64(record.paddedLength)
            }
        }
    }
}
