/// The URL of one end of a stream: `wss://hub.example.net:443/bridges/…` (device-streams 4.3, 6.1).
package struct StreamURL: Hashable, Sendable {
    /// A name or an address; an IPv6 address without its brackets.
    package let host: String
    package let port: UInt16
    /// The request target: begins with a slash, holds the query if there was one. ASCII, percent-encoded as it came.
    package let path: String
    /// False for `ws`.
    package let isSecure: Bool

    package init(host: String, port: UInt16, path: String, isSecure: Bool = true) {
        self.host = host
        self.port = port
        self.path = path
        self.isSecure = isSecure
    }

    /// Nil when the text is anything but an absolute URL of an allowed scheme, without user information and fragment.
    /// - Parameters:
    ///   - portRequired: refuse a URL without a port, as the clients in the field do; otherwise it is 443, or 80 for `ws`.
    ///   - allowPlain: take `ws` as well. Its token goes over the wire in the clear.
    package init?(parsing text: String, portRequired: Bool = false, allowPlain: Bool = false) {
        guard text.utf8.count <= 8192, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "#") }),
            let colon = text.utf8.firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        let scheme = String(text[..<colon])
        let isSecure = ASCII.equalIgnoringCase(scheme, "wss")
        guard isSecure || (allowPlain && ASCII.equalIgnoringCase(scheme, "ws")) else { return nil }
        let rest = text[colon...].utf8.dropFirst()
        guard rest.starts(with: "//".utf8) else { return nil }
        let authority = rest.dropFirst(2).prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
        guard let place = HostPort(parsing: String(Substring(authority))), place.port != nil || !portRequired else { return nil }
        let path = String(text[authority.endIndex...])
        self.init(
            host: place.host, port: place.port ?? (isSecure ? 443 : 80),
            path: path.utf8.first == UInt8(ascii: "/") ? path : "/" + path, isSecure: isSecure)
    }

    /// Host and port, as the Host field of the upgrade request has them.
    package var authority: HostPort { HostPort(host: host, port: port) }
}

extension StreamURL: CustomStringConvertible {
    /// With its port always: clients in the field need it (device-streams 4.3 rule 3).
    package var description: String { "\(isSecure ? "wss" : "ws")://\(authority)\(path)" }
}
