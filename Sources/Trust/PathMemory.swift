import LinuxIO
import Synchronization
import Wire

/// Where the blind switch has not worked, in a file, so that not every new process has to find it out again: something on the way does
/// not let a TLS session end before its connection does. Forgotten after a day.
///
///     HUB WAY UNIX-SECONDS
///
/// Only a memory: a line that cannot be read is dropped, and a file that cannot be written is done without.
package final class PathMemory: Sendable {
    /// One line.
    package struct Entry: Equatable, Sendable {
        package let hub: String
        /// One word: how the hub is reached.
        package let way: String
        /// Unix seconds.
        package let time: Int64

        /// Nil for whatever is no such line.
        package init?(parsing line: String) {
            let words = line.words(4)
            guard words.count == 3, let hub = HostPort(parsing: String(words[0])), let time = Int64(words[2]), time >= 0,
                words[2].utf8.first != UInt8(ascii: "+"), words[2].utf8.first != UInt8(ascii: "-")
            else { return nil }
            self.hub = PinnedKey.name(of: hub)
            way = String(words[1])
            self.time = time
        }

        init(hub: String, way: String, time: Int64) {
            self.hub = hub
            self.way = way
            self.time = time
        }

        /// The line, without its end.
        package var line: String { "\(hub) \(way) \(time)" }
    }

    /// How long an experience counts.
    package static let lifetimeSeconds: Int64 = 24 * 3600
    /// How many places are remembered; the oldest goes first.
    static let limit = 256

    private let file: LineFile?
    private let entries = Mutex<(stamp: FileStamp?, list: [Entry])>((nil, []))

    /// - Parameter path: nil for a memory that ends with the process.
    package init(path: String?) { file = path.map { LineFile(path: $0) } }

    /// Whether the switch failed there within the last day.
    /// - Parameters:
    ///   - way: how the hub is reached: anything that tells one network from another, such as a proxy.
    ///   - now: unix seconds.
    package func isBad(hub: HostPort, way: String, now: Int64) -> Bool {
        let name = PinnedKey.name(of: hub), way = Self.word(way)
        return recall().contains { $0.hub == name && $0.way == way && Self.isRecent($0, now) }
    }

    /// Remembers that the switch failed there.
    package func noteBad(hub: HostPort, way: String, now: Int64) {
        change(hub, way, now) { $0 + [Entry(hub: PinnedKey.name(of: hub), way: Self.word(way), time: now)] }
    }

    /// Remembers that it worked after all.
    package func noteGood(hub: HostPort, way: String, now: Int64) {
        guard isBad(hub: hub, way: way, now: now) else { return }
        change(hub, way, now) { $0 }
    }

    private func change(_ hub: HostPort, _ way: String, _ now: Int64, _ add: ([Entry]) -> [Entry]) {
        let name = PinnedKey.name(of: hub), way = Self.word(way)
        func changed(_ list: [Entry]) -> [Entry] {
            let others = list.filter { !($0.hub == name && $0.way == way) && Self.isRecent($0, now) }
            return Array(add(others).suffix(Self.limit))
        }
        _ = recall()
        entries.withLock { $0.list = changed($0.list) }
        try? file?.edit(isDurable: false) { lines in changed(lines.compactMap { Entry(parsing: $0) }).map(\.line) }
    }

    /// What the file says if it has changed, else what was known.
    private func recall() -> [Entry] {
        guard let file else { return entries.withLock { $0.list } }
        return entries.withLock { known in
            guard let stamp = Files.stamp(file.path), stamp != known.stamp, let lines = try? file.lines() else { return known.list }
            known = (stamp, lines.compactMap { Entry(parsing: $0) })
            return known.list
        }
    }

    /// A time to come is from a clock that was wrong.
    private static func isRecent(_ entry: Entry, _ now: Int64) -> Bool {
        entry.time <= now &+ 300 && now &- entry.time < lifetimeSeconds
    }

    /// As one word.
    private static func word(_ way: String) -> String {
        way.isEmpty ? "-" : PercentCoding.encode(way, leaving: .pathWord)
    }
}

extension PercentCoding.SafeSet {
    fileprivate static let pathWord = PercentCoding.SafeSet(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/[]@=,")
}
