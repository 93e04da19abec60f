import Wire

/// A place on the device's side that services may reach.
struct Target: Equatable, Sendable, CustomStringConvertible {
    /// A name or an address, IPv6 without its brackets.
    let host: String
    let port: UInt16

    /// The agent's own measuring service, which has no port.
    static let bench = Target(host: "", port: 0)

    /// `127.0.0.1:22`.
    var description: String { self == .bench ? "the measuring service" : HostPort(host: host, port: port).description }
}

/// What services may reach, by the name of the stream they open. Nothing is allowed that is not listed.
struct AllowList: Equatable, Sendable {
    /// Why a rule is none.
    struct Malformed: Error, Equatable { let reason: String }

    private var named: [String: Target] = [:]
    private var ranges: [(host: String, ports: ClosedRange<UInt16>)] = []

    var isEmpty: Bool { named.isEmpty && ranges.isEmpty }

    /// Adds `[NAME=][HOST:]PORT` or `[HOST:]PORT-PORT`. The host is 127.0.0.1 unless named, the name is the port's number unless given.
    /// `bench` is the agent's own measuring service.
    mutating func add(_ rule: String) throws(Malformed) {
        if rule == "bench" { return try add(.bench, named: rule) }
        var name: String?, place = Substring(rule)
        if let equals = place.utf8.firstIndex(of: UInt8(ascii: "=")) {
            name = String(place[..<equals])
            place = place[place.utf8.index(after: equals)...]
        }
        if let name, !Self.isName(name) { throw Malformed(reason: "a name has letters, digits and . _ - only, 64 at most") }
        var host = "127.0.0.1", ports = place
        if let colon = place.utf8.lastIndex(of: UInt8(ascii: ":")) {
            let written = place[..<colon]
            guard let parsed = HostPort(parsing: String(written)), parsed.port == nil,
                parsed.isIPv6 == (written.utf8.first == UInt8(ascii: "["))
            else { throw Malformed(reason: "not a host; an IPv6 address stands in brackets") }
            host = parsed.host
            ports = place[place.utf8.index(after: colon)...]
        }
        let ends = ports.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false).map { Self.port(Substring($0)) }
        switch ends.count {
        case 1:
            guard let port = ends[0] else { throw Malformed(reason: "not a port from 1 to 65535") }
            try add(Target(host: host, port: port), named: name ?? String(port))
        case 2:
            guard let low = ends[0], let high = ends[1], low <= high else { throw Malformed(reason: "not a range of ports") }
            guard name == nil else { throw Malformed(reason: "a range of ports has no name") }
            ranges.append((host, low...high))
        default: throw Malformed(reason: "write it like 22, 8000-8010, web=80 or camera=192.0.2.7:554")
        }
    }

    private mutating func add(_ target: Target, named name: String) throws(Malformed) {
        guard named[name] == nil || named[name] == target else { throw Malformed(reason: "the name \(name) is taken already") }
        named[name] = target
    }

    /// Where a stream of this name leads; nil: nowhere. A rule for one port goes before a range, an earlier range before a later one.
    func target(for name: String) -> Target? {
        if let target = named[name] { return target }
        guard let port = Self.port(Substring(name)), String(port) == name else { return nil }
        return ranges.first { $0.ports.contains(port) }.map { Target(host: $0.host, port: port) }
    }

    private static func isName(_ text: String) -> Bool {
        1...64 ~= text.utf8.count
            && text.utf8.allSatisfy {
                ASCII.isDigit($0) || ASCII.lowercased($0) &- 0x61 < 26 || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_")
                    || $0 == UInt8(ascii: "-")
            }
    }

    private static func port(_ text: Substring) -> UInt16? {
        guard 1...5 ~= text.utf8.count, text.utf8.allSatisfy(ASCII.isDigit), let port = UInt16(text), port > 0 else { return nil }
        return port
    }

    static func == (one: AllowList, other: AllowList) -> Bool {
        one.named == other.named && one.ranges.elementsEqual(other.ranges) { $0 == $1 }
    }
}
