import Wire

/// One line of `known_devices`: `HUB DEVICE[/MODULE] SHA256:… [comment]`.
package struct PinnedKey: Equatable, Sendable {
    /// A line that is no pin, and why.
    package enum Malformed: Error, Equatable, Sendable {
        /// Whose pin it is cannot be told.
        case nameless(String)
        /// It is a pin of somebody, but not of any key.
        case keyless(hub: String, device: ClientIdentity)

        /// One line.
        package var reason: String {
            switch self {
            case .nameless(let reason): reason
            case .keyless: "the third word is no fingerprint (SHA256:… of 50 characters)"
            }
        }
    }

    /// In lower case; with its port where that is not 443.
    package let hub: String
    package let device: ClientIdentity
    package let fingerprint: Fingerprint
    package let comment: String

    init(hub: HostPort, device: ClientIdentity, fingerprint: Fingerprint, comment: String = "") {
        self.hub = Self.name(of: hub)
        self.device = device
        self.fingerprint = fingerprint
        self.comment = comment
    }

    /// Nil for an empty line and for a comment, which begins with `#`.
    package init?(parsing line: String) throws(Malformed) {
        let words = line.words(4)
        guard let first = words.first, !first.isComment else { return nil }
        guard let place = HostPort(parsing: String(first)) else { throw .nameless("the first word is no host or host:port") }
        guard words.count > 1, let device = Self.device(words[1]) else { throw .nameless("the second word is no device's id") }
        hub = Self.name(of: place)
        self.device = device
        guard words.count > 2, let fingerprint = Fingerprint(words[2]) else { throw .keyless(hub: hub, device: device) }
        self.fingerprint = fingerprint
        comment = words.count > 3 ? String(words[3]) : ""
    }

    /// The line, without its end.
    package var line: String { "\(hub) \(Self.word(for: device)) \(fingerprint)" + (comment.isEmpty ? "" : " \(comment)") }

    /// The hub as it stands in the file: host names know no case, and 443 goes without saying.
    static func name(of hub: HostPort) -> String {
        let host = String(decoding: hub.host.utf8.map(ASCII.lowercased), as: UTF8.self)
        let bare = host.utf8.last == UInt8(ascii: ".") && !hub.isIPv6 ? String(host.dropLast()) : host
        return HostPort(host: bare, port: hub.port == 443 ? nil : hub.port).description
    }

    /// The device as it stands in the file: one word, a percent sign and whatever is not plain as `%XX`.
    static func word(for device: ClientIdentity) -> String {
        let id = PercentCoding.encode(device.deviceID, leaving: plain)
        return device.moduleID.map { "\(id)/\(PercentCoding.encode($0, leaving: plain))" } ?? id
    }

    private static let plain = PercentCoding.SafeSet(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._*?!(),:=@$'+;")

    private static func device(_ word: Substring) -> ClientIdentity? {
        let parts = word.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map { PercentCoding.decode(String($0)) }
        guard let id = parts[0] else { return nil }
        if parts.count == 1 { return ClientIdentity(deviceID: id) }
        guard let module = parts[1] else { return nil }
        return ClientIdentity(deviceID: id, moduleID: module)
    }
}
