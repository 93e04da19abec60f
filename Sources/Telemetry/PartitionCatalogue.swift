import Glibc
import LinuxIO
import Synchronization

/// What readers of a partition ask for: its segments and bounds, and a call when the end has moved.
///
/// Any thread may use it; nothing waits for the disk under its lock, but for the page of the mark.
final class PartitionCatalogue: Sendable {
    let files: PartitionFiles
    private let state: Mutex<State>

    private struct State: ~Copyable {
        var segments: [SegmentEntry]
        var bounds: PartitionBounds
        var subscribers: [UInt64: @Sendable () -> Void] = [:]
        var nextSubscriber: UInt64 = 0
        let mark: OwnedDescriptor

        /// Tells other processes the bounds. A mark that cannot be written is written after the next commit.
        func publish(_ files: PartitionFiles) {
            let bytes = DurableMark(partition: files.number, log: files.log, bounds: bounds).bytes
            _ = pwrite(mark.raw, bytes, bytes.count, 0)
        }
    }

    /// Publishes what recovery found.
    init(_ recovery: PartitionRecovery, _ files: PartitionFiles) throws(TelemetryError) {
        self.files = files
        let mark = try at(files.mark) { () throws(SystemError) in
            let mark = try PlainFile.open(files.mark, O_RDWR | O_CREAT, mode: 0o640)
            let bytes = DurableMark(partition: files.number, log: files.log, bounds: recovery.bounds).bytes
            try Files.writeAll(bytes, to: mark)
            guard fsync(mark.raw) == 0 else { throw SystemError("fsync") }
            try Files.syncDirectory(of: files.mark)
            return mark
        }
        state = Mutex(State(segments: recovery.segments, bounds: recovery.bounds, mark: mark))
    }

    var bounds: PartitionBounds { state.withLock { $0.bounds } }
    var segments: [SegmentEntry] { state.withLock { $0.segments } }

    /// The bytes of all segments' files.
    var bytes: UInt64 {
        state.withLock { state in
            guard let oldest = state.segments.first else { return 0 }
            return state.bounds.end.offset - min(oldest.base, state.bounds.end.offset) + UInt64(state.segments.count * SegmentHeader.size)
        }
    }

    /// A commit has become durable.
    func advance(to end: TelemetryPosition, last: SegmentIndex.Entry) {
        let subscribers = state.withLock { state in
            state.bounds.end = end
            state.bounds.lastOffset = last.position.offset
            state.bounds.lastMilliseconds = last.milliseconds
            state.publish(files)
            return state.subscribers.isEmpty ? [] : Array(state.subscribers.values)
        }
        for subscriber in subscribers { subscriber() }
    }

    /// A new segment is there, in which the next record will be.
    func begin(_ segment: SegmentHeader) {
        state.withLock { state in
            if state.segments.last?.base == segment.first.offset { state.segments.removeLast() }
            state.segments.append(
                SegmentEntry(base: segment.first.offset, sequence: segment.first.sequence, milliseconds: segment.milliseconds))
            if state.segments.count == 1 { state.bounds.begin = segment.first }
            state.bounds.generation &+= 1
            state.publish(files)
        }
    }

    /// Removes the oldest segment, unless it is the one written to or no longer the one that was meant.
    func remove(oldest base: UInt64) -> Bool {
        let isRemoved = state.withLock { state in
            guard state.segments.count > 1, state.segments[0].base == base else { return false }
            state.segments.removeFirst()
            state.bounds.begin = TelemetryPosition(
                offset: state.segments[0].base,
                sequence: state.segments.lazy.compactMap(\.sequence).first ?? state.bounds.end.sequence)
            state.publish(files)
            return true
        }
        guard isRemoved else { return false }
        Files.remove(files.segment(base))
        Files.remove(files.index(base))
        return true
    }

    func subscribe(_ call: @escaping @Sendable () -> Void) -> UInt64 {
        state.withLock { state in
            state.nextSubscriber += 1
            state.subscribers[state.nextSubscriber] = call
            return state.nextSubscriber
        }
    }

    func unsubscribe(_ number: UInt64) { state.withLock { _ = $0.subscribers.removeValue(forKey: number) } }

    /// Makes the mark durable, at an orderly end.
    func settle() { state.withLock { _ = fsync($0.mark.raw) } }
}
