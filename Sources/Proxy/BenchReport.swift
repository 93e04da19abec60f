import Console
import Glibc
import Wire

/// Times of one kind, in nanoseconds.
struct BenchTimes: Sendable, Equatable {
    private(set) var sorted: [UInt64]

    init(_ times: [UInt64]) { sorted = times.sorted() }

    var isEmpty: Bool { sorted.isEmpty }
    /// The value below which `share` of all are; nil when there are none.
    /// - Parameter share: from 0 to 1.
    func quantile(_ share: Double) -> UInt64? {
        guard !sorted.isEmpty else { return nil }
        return sorted[min(sorted.count - 1, max(0, Int(Double(sorted.count) * share)))]
    }

    /// In milliseconds, by microseconds.
    static func milliseconds(_ time: UInt64) -> Double { Double(time / 1000) / 1000 }

    var document: JSONValue? {
        guard let least = quantile(0), let median = quantile(0.5), let high = quantile(0.99) else { return nil }
        return .object(of: [
            "count": .integer(Int64(sorted.count)), "min": .double(Self.milliseconds(least)), "p50": .double(Self.milliseconds(median)),
            "p99": .double(Self.milliseconds(high)),
        ])
    }
}

/// Everything that was measured.
struct BenchReport: Sendable {
    /// A part of the way.
    struct Hop: Sendable {
        /// For programs: `tlsResumed`; for people: `TLS handshake, resumed`.
        let key, title: String
        let times: BenchTimes
    }

    let target: StreamTarget
    let hub: HostPort
    let proxy: String?
    /// `blind`, `e2e` or `websocket`.
    var mode = ""
    var hops: [Hop] = []
    var opening: [Hop] = []
    var roundTrips = BenchTimes([])
    static let roundTripBytes = 64
    /// Bytes per second.
    var toDevice: Double?, fromDevice: Double?

    /// For `--json`; milliseconds, and bytes per second.
    var document: JSONValue {
        func object(_ hops: [Hop]) -> JSONValue {
            var members = JSONObject()
            for hop in hops { members[hop.key] = hop.times.document }
            return .object(members)
        }
        var trip = roundTrips.document
        trip?["bytes"] = .integer(Int64(Self.roundTripBytes))
        return .object(of: [
            "device": .string(target.client.deviceID), "module": target.client.moduleID.map { .string($0) },
            "remote": .string(target.remote),
            "hub": .string(hub.description), "proxy": proxy.map { .string($0) }, "mode": .string(mode == "blind" ? mode : "websocket"),
            "endToEnd": .bool(mode != "websocket"), "hubMilliseconds": object(hops), "streamMilliseconds": object(opening),
            "roundTripMilliseconds": trip, "toDeviceBytesPerSecond": toDevice.map { .integer(Int64($0)) },
            "fromDeviceBytesPerSecond": fromDevice.map { .integer(Int64($0)) },
        ])
    }

    func print() throws(Failure) {
        let way = proxy.map { " through proxy \($0)" } ?? ""
        let words =
            switch mode {
            case "blind": "blind, encrypted end to end"
            case "e2e": "WebSocket, encrypted end to end"
            default: "WebSocket, which the hub can read"
            }
        try Output.line("\(target) via \(hub)\(way): \(words)")
        try Output.line("")
        func row(_ title: String, _ times: BenchTimes) -> [String]? {
            guard let least = times.quantile(0), let median = times.quantile(0.5), let high = times.quantile(0.99) else { return nil }
            return [title] + [least, median, high].map(Self.text)
        }
        var rows = hops.compactMap { row($0.title, $0.times) } + opening.compactMap { row($0.title, $0.times) }
        if let trip = row("round trip of \(Self.roundTripBytes) bytes", roundTrips) { rows.append(trip) }
        try Output.table(["", "MIN", "MEDIAN", "P99"], rows)
        let rates = [("to the device", toDevice), ("from the device", fromDevice)].compactMap { title, rate in
            rate.map { [title, "\(Self.fixed($0 / 1e6, 1)) MB/s"] }
        }
        guard !rates.isEmpty else { return }
        try Output.line("")
        try Output.table(["", "THROUGHPUT"], rates)
    }

    /// `0.123 ms`.
    static func text(_ time: UInt64) -> String { "\(fixed(Double(time) / 1e6, 3)) ms" }

    private static func fixed(_ value: Double, _ digits: Int) -> String {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let whole = Int64((value * scale).rounded()), unit = Int64(scale)
        let fraction = String(whole % unit)
        return "\(whole / unit).\(String(repeating: "0", count: max(0, digits - fraction.utf8.count)))\(fraction)"
    }
}
