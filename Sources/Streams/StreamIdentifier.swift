import Bytes
import Wire

/// Names one stream: 32 hexadecimal digits, the first two of which say which reactor it lives on (device-streams 1).
package struct StreamIdentifier: Hashable, Sendable, CustomStringConvertible {
    package let text: String

    /// A new name for a stream that lives on reactor `home` (0–255).
    package init(home: UInt8) {
        var bytes = [UInt8].random(count: 16)
        bytes[0] = home
        text = Hex.encode(bytes)
    }

    /// Reads a name back; nil when it is none.
    package init?(_ text: String) {
        guard text.utf8.count == 32, text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }) else { return nil }
        self.text = text
    }

    package var home: Int { Int(text.prefix(2), radix: 16) ?? 0 }
    package var description: String { text }
}

/// One of the two connections of a stream.
package enum Leg: String, Sendable {
    case device, service

    package var other: Leg { self == .device ? .service : .device }
}

/// A bearer token: 192 random bits in base64url, good for one leg of one stream and one upgrade (device-streams 6.2).
package struct StreamToken: Equatable, Sendable, CustomStringConvertible {
    package let text: String

    package init() { text = Base64.encodeURL([UInt8].random(count: 24)) }

    package func matches(_ candidate: String) -> Bool { equalInConstantTime(Array(text.utf8), Array(candidate.utf8)) }

    package var description: String { "StreamToken(redacted)" }
}

/// The path of a leg's URL: `/bridges/ih/{hub}/d/{device}[/m/{module}]/sid/{sid}/r/{device|service}` (device-streams 6.1).
package struct LegPath: Equatable, Sendable {
    package let stream: StreamIdentifier
    package let leg: Leg

    package static let prefix = "/bridges/"

    /// Reads the path of a request; whose stream it is, the stream itself knows.
    package init?(_ path: String) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 9, parts[0].isEmpty, parts[1] == "bridges", parts[parts.count - 4] == "sid", parts[parts.count - 2] == "r",
            let stream = StreamIdentifier(String(parts[parts.count - 3])), let leg = Leg(rawValue: String(parts[parts.count - 1]))
        else { return nil }
        self.stream = stream
        self.leg = leg
    }

    package static func path(hub: String, client: ClientIdentity, stream: StreamIdentifier, leg: Leg) -> String {
        let device = PercentCoding.encode(client.deviceID, leaving: .streamURL)
        let module = client.moduleID.map { "/m/\(PercentCoding.encode($0, leaving: .streamURL))" } ?? ""
        return "\(prefix)ih/\(hub)/d/\(device)\(module)/sid/\(stream)/r/\(leg.rawValue)"
    }
}
