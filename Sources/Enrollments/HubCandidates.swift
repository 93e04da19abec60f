import Bytes
import Glibc
import Query
import Wire

/// Linked hubs that a registration may go to (dps 10.1).
struct HubCandidates {
    let hubs: [LinkedHub]

    /// - Parameter names: hubs that the enrollment is restricted to; empty: all.
    init(_ linked: [LinkedHub], names: [String], policy: AllocationPolicy) {
        hubs = linked.filter { hub in
            (names.isEmpty || names.contains { ASCII.equalIgnoringCase($0, hub.name) })
                && (hub.appliesPolicy || policy == .static || policy == .custom)
        }
    }

    private init(_ hubs: [LinkedHub]) { self.hubs = hubs }

    /// Those with the least latency that anybody has told; all of them when nobody has.
    var nearest: HubCandidates {
        guard let least = hubs.compactMap(\.latency).min() else { return self }
        return HubCandidates(hubs.filter { $0.latency == least })
    }

    /// Stands for the hubs and their weights.
    var signature: String {
        let text = hubs.map { "\($0.key):\($0.weight)" }.sorted().joined(separator: ",")
        return String(QueryDigest.of(text), radix: 16)
    }

    /// The hubs in the order in which an id prefers them: weighted rendezvous hashing. It is the same in every process, and a hub
    /// that comes or goes changes only what it has a part in.
    func preferred(by id: String) -> [LinkedHub] {
        let id = id.lowercased()
        return hubs.map { hub in (hub, Self.distance(hub, id)) }.sorted { $0.1 < $1.1 }.map(\.0)
    }

    /// From an exponential distribution with the weight as its rate: the least of several falls to each in proportion.
    private static func distance(_ hub: LinkedHub, _ id: String) -> Double {
        var bits = QueryDigest.of("\(hub.key)\0\(id)")
        for (shift, factor) in [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)] as [(UInt64, UInt64)] {
            bits = (bits ^ (bits >> shift)) &* factor  // the end of SplitMix64: every bit depends on every other
        }
        bits ^= bits >> 31
        return -log((Double(bits >> 11) + 0.5) / 9_007_199_254_740_992) / Double(hub.weight)
    }

    /// The hub that an id prefers among those that have not more than their part of the devices so far, and a little.
    ///
    /// - Parameter counts: devices that each hub has of those spread over these candidates, by the hub's key.
    func chosen(for id: String, counts: [String: Int]) -> LinkedHub? {
        let order = preferred(by: id)
        let total = Double(counts.values.reduce(1, +)), weights = Double(hubs.reduce(0) { $0 + $1.weight })
        return order.first { hub in
            Double(counts[hub.key, default: 0] + 1) <= total * Double(hub.weight) / weights * 1.01 + 8
        } ?? order.first
    }
}
