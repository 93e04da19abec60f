import Glibc
import Wire

/// One member of `no_proxy`: `*`, a host, a domain with or without its leading dot, an address, a network such as `10.0.0.0/8`; a host,
/// domain or address may carry `:port`.
enum ProxyException: Equatable, Sendable {
    case everything
    /// The name itself and everything below it, lower case; for one port or all.
    case domain(String, port: UInt16?)
    case address([UInt8], port: UInt16?)
    case network([UInt8], bits: Int)

    /// Members are separated by commas or white space; one that makes no sense is passed over, as everybody does.
    static func list(_ text: String) -> [ProxyException] {
        text.utf8.split { $0 == UInt8(ascii: ",") || $0 <= 0x20 }.compactMap { ProxyException(String(Substring($0))) }
    }

    init?(_ member: String) {
        if member == "*" {
            self = .everything
            return
        }
        if let slash = member.utf8.firstIndex(of: UInt8(ascii: "/")) {
            guard let base = Self.bytes(String(member[..<slash])),
                let bits = Int(member[member.utf8.index(after: slash)...]), 0...(base.count * 8) ~= bits
            else { return nil }
            self = .network(base, bits: bits)
            return
        }
        var name = Substring(member)
        while name.utf8.first == UInt8(ascii: ".") || name.utf8.first == UInt8(ascii: "*") { name.removeFirst() }
        guard let place = HostPort(parsing: String(name)) else { return nil }
        if let bytes = Self.bytes(place.host) {
            self = .address(bytes, port: place.port)
        } else {
            self = .domain(Self.plain(place.host), port: place.port)
        }
    }

    func covers(_ place: HostPort) -> Bool {
        switch self {
        case .everything: return true
        case .address(let bytes, let port): return Self.bytes(place.host) == bytes && (port == nil || port == place.port)
        case .domain(let domain, let port):
            let host = Self.plain(place.host)
            return (host == domain || host.hasSuffix("." + domain)) && (port == nil || port == place.port)
        case .network(let base, let bits):
            guard let bytes = Self.bytes(place.host), bytes.count == base.count else { return false }
            for bit in 0..<bits where (bytes[bit / 8] ^ base[bit / 8]) & (0x80 >> UInt8(bit % 8)) != 0 { return false }
            return true
        }
    }

    /// Lower case, and without the dot that ends a complete name.
    private static func plain(_ host: String) -> String {
        let lower = String(decoding: host.utf8.map(ASCII.lowercased), as: UTF8.self)
        return lower.hasSuffix(".") ? String(lower.dropLast()) : lower
    }

    /// An address literal's 4 or 16 bytes; nil for a name.
    private static func bytes(_ text: String) -> [UInt8]? {
        var text = text
        if text.hasPrefix("["), text.hasSuffix("]") { text = String(text.dropFirst().dropLast()) }
        var v4 = in_addr()
        if inet_pton(AF_INET, text, &v4) == 1 { return withUnsafeBytes(of: v4.s_addr) { Array($0) } }
        var v6 = in6_addr()
        if inet_pton(AF_INET6, text, &v6) == 1 { return withUnsafeBytes(of: v6) { Array($0) } }
        return nil
    }
}
