import Glibc

/// A host with or without a port: `hub.example.net:8443`, `[::1]:443`, `192.0.2.1`. RFC 3986 section 3.2.
package struct HostPort: Hashable, Sendable {
    /// A name or an address as written; an IPv6 address without its brackets.
    package let host: String
    /// 1 to 65535; nil when the text named none.
    package let port: UInt16?

    /// - Parameter host: taken as valid.
    package init(host: String, port: UInt16?) {
        self.host = host
        self.port = port
    }

    /// Nil unless the text is one host and at most one port. An IPv6 address needs its brackets when a port follows.
    package init?(parsing text: String) {
        let all = text.utf8
        guard !all.isEmpty, all.count <= 512 else { return nil }
        if all.first == UInt8(ascii: "[") {
            guard let close = all.firstIndex(of: UInt8(ascii: "]")) else { return nil }
            let inside = String(text[all.index(after: all.startIndex)..<close])
            guard Self.isIPv6(inside), let port = Self.port(all[all.index(after: close)...]) else { return nil }
            self.init(host: inside, port: port)
        } else if let colon = all.firstIndex(of: UInt8(ascii: ":")) {
            if Self.isIPv6(text) {
                self.init(host: text, port: nil)
                return
            }
            let name = String(text[..<colon])
            guard Self.isName(name), let port = Self.port(all[colon...]) else { return nil }
            self.init(host: name, port: port)
        } else {
            guard Self.isName(text) else { return nil }
            self.init(host: text, port: nil)
        }
    }

    /// What follows the host: nothing, or a colon and 1 to 5 digits. The outer nil means neither.
    private static func port(_ text: Substring.UTF8View) -> UInt16?? {
        if text.isEmpty { return .some(nil) }
        let digits = text.dropFirst()
        guard text.first == UInt8(ascii: ":"), (1...5).contains(digits.count), digits.allSatisfy(ASCII.isDigit),
            let port = UInt16(Substring(digits)), port > 0
        else { return nil }
        return .some(port)
    }

    /// Letters, digits, hyphens and underscores in labels of 1 to 63, 253 in all; one dot may end it. IPv4 has the same form.
    private static func isName(_ text: String) -> Bool {
        let bytes = text.utf8Span.span
        guard !bytes.isEmpty, bytes.count <= 253 else { return false }
        var label = 0
        for index in 0..<bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: ".") {
                guard label > 0 else { return false }
                label = 0
                continue
            }
            let letter = ASCII.lowercased(byte) &- 0x61 < 26
            guard letter || ASCII.isDigit(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_") else { return false }
            label += 1
            guard label <= 63 else { return false }
        }
        return true
    }

    private static func isIPv6(_ text: String) -> Bool {
        guard text.utf8.count < Int(INET6_ADDRSTRLEN), text.utf8.allSatisfy({ $0 != 0 }) else { return false }
        var address = in6_addr()
        return inet_pton(AF_INET6, text, &address) == 1
    }

    /// Whether the host is an IPv6 address, which takes brackets in a URL.
    package var isIPv6: Bool { host.utf8.contains(UInt8(ascii: ":")) }
}

extension HostPort: CustomStringConvertible {
    /// As it stands in a URL or a Host field.
    package var description: String {
        let name = isIPv6 ? "[\(host)]" : host
        return port.map { "\(name):\($0)" } ?? name
    }
}
