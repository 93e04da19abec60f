/// An address and a port to listen on, as people write them; port 0 picks a free one.
package struct ListenAddress: Equatable, Sendable, CustomStringConvertible {
    /// A name or an address without brackets; empty: every address of this machine.
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// `HOST:PORT`, `[V6]:PORT`, `:PORT` or `PORT`.
    package init?(_ text: String) {
        if let port = Self.port(text) {
            self.init(host: "", port: port)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = Self.port(String(text[text.index(after: colon)...])) else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]"), host.count > 2 {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") || host.contains("[") {
            return nil
        }
        guard !host.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "@") }) else {
            return nil
        }
        self.init(host: host, port: port)
    }

    /// A decimal port, 0–65535.
    package static func port(_ text: String) -> UInt16? {
        guard !text.isEmpty, text.utf8.count <= 5, text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) else {
            return nil
        }
        return UInt16(text)
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
