import CLinux
import Glibc

/// An IPv4 or IPv6 address with a port.
package struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
    private var bytes: InlineBytes
    package let family: CInt
    package let port: UInt16

    private struct InlineBytes: Hashable, Sendable {
        var high: UInt64 = 0, low: UInt64 = 0
        var scope: UInt32 = 0
    }

    /// A literal address: `127.0.0.1`, `::1`, `[::1]`; nil for anything that is not one.
    package init?(address text: String, port: UInt16) {
        self.port = port
        bytes = InlineBytes()
        var text = text
        if text.hasPrefix("["), text.hasSuffix("]") { text = String(text.dropFirst().dropLast()) }
        var v4 = in_addr()
        var v6 = in6_addr()
        if inet_pton(AF_INET, text, &v4) == 1 {
            family = AF_INET
            bytes.low = UInt64(v4.s_addr)
        } else if inet_pton(AF_INET6, text, &v6) == 1 {
            family = AF_INET6
            withUnsafeBytes(of: &v6) { raw in
                bytes.high = raw.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
                bytes.low = raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            }
        } else {
            return nil
        }
    }

    /// What `getsockname`, `accept` or `getaddrinfo` filled in; nil for other families.
    package init?(_ raw: UnsafePointer<sockaddr>) {
        bytes = InlineBytes()
        family = CInt(raw.pointee.sa_family)
        let memory = UnsafeRawPointer(raw)
        switch family {
        case AF_INET:
            let address = memory.loadUnaligned(as: sockaddr_in.self)
            port = UInt16(bigEndian: address.sin_port)
            bytes.low = UInt64(address.sin_addr.s_addr)
        case AF_INET6:
            let address = memory.loadUnaligned(as: sockaddr_in6.self)
            port = UInt16(bigEndian: address.sin6_port)
            bytes.scope = address.sin6_scope_id
            withUnsafeBytes(of: address.sin6_addr) { raw in
                bytes.high = raw.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
                bytes.low = raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            }
        default: return nil
        }
    }

    /// The local address a socket is bound to.
    package static func local(of descriptor: CInt) -> SocketAddress? { named(descriptor, getsockname) }
    package static func peer(of descriptor: CInt) -> SocketAddress? { named(descriptor, getpeername) }

    private static func named(
        _ descriptor: CInt, _ call: (CInt, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> CInt
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                call(descriptor, address, &length) == 0 ? SocketAddress(address) : nil
            }
        }
    }

    /// Lends the C form.
    package func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        if family == AF_INET {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(truncatingIfNeeded: bytes.low)
            return withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
        }
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        address.sin6_scope_id = bytes.scope
        withUnsafeMutableBytes(of: &address.sin6_addr) { raw in
            raw.storeBytes(of: bytes.high, toByteOffset: 0, as: UInt64.self)
            raw.storeBytes(of: bytes.low, toByteOffset: 8, as: UInt64.self)
        }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
        }
    }

    /// The address without brackets; an IPv4 address that arrived on an IPv6 socket is shown as IPv4.
    package var host: String {
        var text = [CChar](repeating: 0, count: 64)
        var words = (bytes.high, bytes.low)
        if family == AF_INET {
            var v4 = in_addr(s_addr: UInt32(truncatingIfNeeded: bytes.low))
            inet_ntop(AF_INET, &v4, &text, 64)
        } else {
            inet_ntop(AF_INET6, &words, &text, 64)
        }
        let shown = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return shown.hasPrefix("::ffff:") && shown.contains(".") ? String(shown.dropFirst(7)) : shown
    }

    /// `127.0.0.1:443` or `[::1]:443`.
    package var description: String {
        let host = self.host
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
