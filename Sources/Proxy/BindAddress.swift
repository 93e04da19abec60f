import LinuxIO
import Wire

/// Where forward listens.
struct BindAddress: Sendable {
    private let literal: String
    private let plain: SocketAddress

    /// An IPv4 or IPv6 address, in brackets or not, `localhost`, or `*` for every address; nil for anything else.
    init?(_ text: String) {
        literal =
            switch text {
            case "localhost": "127.0.0.1"
            case "*": "::"
            default: text
            }
        guard let plain = SocketAddress(address: literal, port: 0) else { return nil }
        self.plain = plain
    }

    func at(_ port: UInt16) -> SocketAddress { SocketAddress(address: literal, port: port) ?? plain }
}
