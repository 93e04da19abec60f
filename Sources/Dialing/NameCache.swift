import LinuxIO

/// Addresses of names, as the resolver told them. It tells no time to live, so an answer is good for a minute, and for some more while a
/// new one is being had. An answer whose addresses could not be reached is forgotten by whoever tried. Asks no clock.
struct NameCache {
    /// What is known of a name.
    struct Known {
        let addresses: [SocketAddress]
        /// The caller is the one to ask again; until it has, the others may go on with this.
        let wantsRefresh: Bool
    }

    private struct Entry {
        var addresses: [SocketAddress]
        var askedAt: UInt64
        var refreshedAt: UInt64
    }

    static let freshMilliseconds: UInt64 = 60_000, staleMilliseconds: UInt64 = 600_000
    /// A refresh that brought nothing is tried again after this time.
    private static let refreshMilliseconds: UInt64 = 5000
    private static let limit = 64
    private var entries: [String: Entry] = [:]

    /// - Parameter now: milliseconds of a clock that never steps.
    mutating func look(up host: String, _ port: UInt16, at now: UInt64) -> Known? {
        let key = Self.key(host, port)
        guard let entry = entries[key] else { return nil }
        let age = now - min(entry.askedAt, now)
        guard age < Self.staleMilliseconds else {
            entries[key] = nil
            return nil
        }
        let wantsRefresh = age >= Self.freshMilliseconds && now - min(entry.refreshedAt, now) >= Self.refreshMilliseconds
        if wantsRefresh { entries[key]?.refreshedAt = now }
        return Known(addresses: entry.addresses, wantsRefresh: wantsRefresh)
    }

    /// Takes an answer of the resolver's.
    mutating func keep(_ addresses: [SocketAddress], of host: String, _ port: UInt16, at now: UInt64) {
        guard !addresses.isEmpty else { return }
        if entries.count >= Self.limit { entries.removeAll() }  // nobody has so many hubs
        entries[Self.key(host, port)] = Entry(addresses: addresses, askedAt: now, refreshedAt: now)
    }

    /// None of the addresses could be reached.
    mutating func forget(_ host: String, _ port: UInt16) { entries[Self.key(host, port)] = nil }

    private static func key(_ host: String, _ port: UInt16) -> String { "\(host):\(port)" }
}
