/// Where to listen: `[::]:443`, `127.0.0.1:8883`, `:443`, `443`.
package struct ListenAddress: Hashable, Sendable, CustomStringConvertible {
    /// An address or a name, IPv6 without its brackets; empty: every address of this machine.
    package var host: String
    /// 0 picks a free one.
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Nil unless the text ends in a port and what stands before it is a host, `*`, or nothing.
    package init?(parsing text: some StringProtocol) {
        var host = Substring(""), port = Substring(text)
        if let colon = port.utf8.lastIndex(of: UInt8(ascii: ":")) {
            host = port[..<colon]
            port = port[port.utf8.index(after: colon)...]
        }
        guard (1...5).contains(port.utf8.count), port.utf8.allSatisfy(ASCII.isDigit), let number = UInt16(port) else { return nil }
        if host.isEmpty || host == "*" {
            self.init(host: "", port: number)
            return
        }
        guard let place = HostPort(parsing: String(host)), place.port == nil, place.isIPv6 == (host.utf8.first == UInt8(ascii: "["))
        else { return nil }
        self.init(host: place.host, port: number)
    }

    package var description: String {
        if host.isEmpty { return ":\(port)" }
        return host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}

/// A value of a configuration file, read by its kind.
package enum ConfigurationValue: Equatable, Sendable {
    case text(String)
    case integer(Int)
    case seconds(Int)
    case bytes(Int)
    /// 0: no limit.
    case rate(Int)
    /// Nil: no limit.
    case frequency(Frequency?)
    case boolean(Bool)
    case address(ListenAddress)

    /// Nil when the text is no value of this kind.
    package init?(_ text: String, as kind: ConfigurationSchema.Kind) {
        switch kind {
        case .text: self = .text(text)
        case .integer(let range):
            guard let number = Substring(text).plainInteger.flatMap({ Int(exactly: $0) }), range.contains(number) else { return nil }
            self = .integer(number)
        case .seconds:
            guard let number = Self.seconds(text) else { return nil }
            self = .seconds(number)
        case .secondsIn(let range):
            guard let number = Self.seconds(text), range.contains(number) else { return nil }
            self = .seconds(number)
        case .bytes:
            guard let number = Self.bytes(text) else { return nil }
            self = .bytes(number)
        case .rate:
            guard let rate = text == "none" || text == "0" ? 0 : ByteRate.parse(text) else { return nil }
            self = .rate(rate)
        case .frequency:
            let frequency = Frequency(parsing: text)
            guard frequency != nil || text == "none" else { return nil }
            self = .frequency(frequency)
        case .boolean:
            switch text {
            case "yes", "true", "on": self = .boolean(true)
            case "no", "false", "off": self = .boolean(false)
            default: return nil
            }
        case .address:
            guard let address = ListenAddress(parsing: text) else { return nil }
            self = .address(address)
        case .choice(let words):
            guard words.contains(text) else { return nil }
            self = .text(text)
        }
    }

    /// A time in seconds: `90`, `90s`, `1m30s`, `2h`, `1d`; nil for anything else, or what 64 bits cannot hold.
    package static func seconds(_ text: String) -> Int? {
        var rest = Substring(text), total = 0
        guard !rest.isEmpty else { return nil }
        if let bare = ASCII.decimal(text.utf8Span.span.bytes) { return bare }
        while !rest.isEmpty {
            let digits = Substring(rest.utf8.prefix(while: ASCII.isDigit))
            rest = Substring(rest.utf8.dropFirst(digits.utf8.count))
            guard let number = Int(digits), let unit = rest.utf8.first else { return nil }
            let factor: Int
            switch unit {
            case UInt8(ascii: "s"): factor = 1
            case UInt8(ascii: "m"): factor = 60
            case UInt8(ascii: "h"): factor = 3600
            case UInt8(ascii: "d"): factor = 86_400
            default: return nil
            }
            let (product, tooLong) = number.multipliedReportingOverflow(by: factor)
            let (sum, overflow) = total.addingReportingOverflow(product)
            guard !tooLong, !overflow else { return nil }
            total = sum
            rest = Substring(rest.utf8.dropFirst())
        }
        return total
    }

    /// A size in bytes: `4096`, `64k`, `1MB`, `2GiB`, powers of 1024; nil for anything else, or what 64 bits cannot hold.
    package static func bytes(_ text: String) -> Int? {
        let digits = Substring(text.utf8.prefix(while: ASCII.isDigit))
        guard let number = Int(digits) else { return nil }
        let shift: Int
        switch text.utf8.dropFirst(digits.utf8.count).map({ ASCII.lowercased($0) }) {
        case [], Array("b".utf8): shift = 0
        case Array("k".utf8), Array("kb".utf8), Array("kib".utf8): shift = 10
        case Array("m".utf8), Array("mb".utf8), Array("mib".utf8): shift = 20
        case Array("g".utf8), Array("gb".utf8), Array("gib".utf8): shift = 30
        case Array("t".utf8), Array("tb".utf8), Array("tib".utf8): shift = 40
        default: return nil
        }
        let (product, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
        return overflow ? nil : product
    }
}
