import CLinux

/// A kernel pipe through which bytes go from one socket to another without being copied.
package final class Pipe {
    /// Where bytes come out, and where they go in.
    package let reading, writing: OwnedDescriptor
    /// Bytes that it can hold at most, when they lie densely.
    package let capacity: Int

    fileprivate init?(bytes: Int) {
        var ends: [CInt] = [-1, -1]
        guard clx_pipe(&ends) == 0 else { return nil }
        reading = OwnedDescriptor(adopting: ends[0])
        writing = OwnedDescriptor(adopting: ends[1])
        _ = clx_set_pipe_size(ends[1], CInt(truncatingIfNeeded: bytes))  // a user has only so many large ones
        capacity = Int(clx_pipe_size(ends[1]))
        // Beyond the user's share a new pipe holds two pages: copying is better than that.
        guard capacity >= PipePool.leastBytes else { return nil }
    }
}

/// The pipes of one reactor: lent while bytes are in them, kept for the next while a few are idle.
package final class PipePool {
    /// How much a pipe is asked to hold, and the least that is worth having.
    package static let usualBytes = 1 << 20, leastBytes = 1 << 16
    private static let idleLimit = 16
    private static let restMilliseconds: UInt64 = 1000

    private var idle: [Pipe] = []
    private var restsUntil: UInt64 = 0

    init() {}

    /// An empty pipe; nil when there is none to be had now, and for a second after.
    package func take(now: UInt64) -> Pipe? {
        if let pipe = idle.popLast() { return pipe }
        guard now >= restsUntil else { return nil }
        guard let pipe = Pipe(bytes: Self.usualBytes) else {
            restsUntil = now + Self.restMilliseconds
            return nil
        }
        return pipe
    }

    /// Takes back a pipe that has run empty.
    package func give(_ pipe: Pipe) {
        if idle.count < Self.idleLimit { idle.append(pipe) }
    }
}
