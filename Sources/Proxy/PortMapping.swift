import Wire

/// What `[LOCAL:]REMOTE` means: local ports, and the streams that they open.
///
///     22                        2222 -> 22, another port when that is taken
///     8080                      8080 -> 8080, the same
///     9000:80                   9000 -> 80, and no other
///     0:80                      a free port -> 80
///     web, 9000:web             a free port, or 9000 -> the agent's "web"
///     30000-30010               11 ports, each by the rule for one
///     40000-40010:30000-30010   11 pairs
struct PortMapping: Equatable, Sendable {
    /// The local port.
    enum Local: Equatable, Sendable {
        /// This one and no other.
        case exactly(UInt16)
        /// This one, or a free one when it is taken.
        case preferably(UInt16)
        /// Whichever is free.
        case any
    }

    let local: Local
    /// The stream's name: a port in decimal, or a name that the agent offers.
    let remote: String

    /// Most local ports of one command.
    static let limit = 4096

    /// Why a word is no mapping.
    struct Malformed: Error, Equatable {
        let reason: String
        init(_ reason: String) { self.reason = reason }
    }

    private enum Side {
        case ports(ClosedRange<UInt16>)
        case name(String)
    }

    /// The mappings that one word stands for, in order.
    static func parse(_ word: String) throws(Malformed) -> [PortMapping] {
        let parts = word.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false).map { String(Substring($0)) }
        guard parts.count <= 2 else { throw Malformed("more than one colon: write LOCAL:REMOTE, and name the address with --bind") }
        let remote = try side(parts[parts.count - 1])
        let local: Side? = parts.count == 2 ? try side(parts[0]) : nil
        switch (local, remote) {
        case (nil, .name(let name)): return [PortMapping(local: .any, remote: name)]
        case (nil, .ports(let ports)):
            guard ports.lowerBound > 0 else { throw Malformed("a device has no port 0") }
            return ports.map { PortMapping(local: .preferably(usual($0)), remote: String($0)) }
        case (.name?, _): throw Malformed("LOCAL is a port or a range of ports")
        case (.ports(let ports)?, .name(let name)):
            guard ports.count == 1 else { throw Malformed("a range of local ports needs a range of remote ones") }
            return [PortMapping(local: exact(ports.lowerBound), remote: name)]
        case (.ports(let ports)?, .ports(let remotes)):
            guard remotes.lowerBound > 0 else { throw Malformed("a device has no port 0") }
            if ports == 0...0 { return remotes.map { PortMapping(local: .any, remote: String($0)) } }
            guard ports.count == remotes.count else { throw Malformed("the two ranges differ in length") }
            guard ports.lowerBound > 0 else { throw Malformed("a range of local ports begins at 1 or above") }
            return zip(ports, remotes).map { PortMapping(local: .exactly($0), remote: String($1)) }
        }
    }

    /// Where a remote port is found when nobody says where: 22 becomes 2222.
    static func usual(_ remote: UInt16) -> UInt16 { remote < 1024 ? 2200 + remote : remote }

    private static func exact(_ port: UInt16) -> Local { port == 0 ? .any : .exactly(port) }

    private static func side(_ text: String) throws(Malformed) -> Side {
        if let port = try port(text) { return .ports(port...port) }
        if let dash = text.utf8.firstIndex(of: UInt8(ascii: "-")),
            let first = try port(String(text[..<dash])), let last = try port(String(text[text.index(after: dash)...]))
        {
            guard first <= last else { throw Malformed("the range \(text) goes backwards") }
            guard last - first < limit else { throw Malformed("a range has at most \(limit) ports") }
            return .ports(first...last)
        }
        guard Identifier.isPlainStreamName(text) else {
            throw Malformed(text.isEmpty ? "a side of the colon is empty" : "neither a port, nor a range, nor a name")
        }
        return .name(text)
    }

    /// A decimal port; nil when the text is not a number at all.
    private static func port(_ text: String) throws(Malformed) -> UInt16? {
        guard !text.isEmpty, text.utf8.allSatisfy(ASCII.isDigit) else { return nil }
        guard text.utf8.count <= 5, let port = UInt16(text) else { throw Malformed("\(text) is above 65535") }
        return port
    }
}
