import LinuxIO

/// The socket of a connection that has left TLS, with what belongs to the connection.
///
/// Public only because an open method takes it.
public struct BareSocket: ~Copyable, Sendable {
    /// Non-blocking; what comes now comes from behind the peer's close_notify.
    package let descriptor: OwnedDescriptor
    /// Lives as long as the connection; see `Channel.companion`.
    package let companion: (any AnyObject & Sendable)?
    /// The address at the other end.
    package let peer: SocketAddress?

    /// Takes a connected stream socket.
    package init(_ descriptor: consuming OwnedDescriptor, companion: (any AnyObject & Sendable)? = nil, peer: SocketAddress? = nil) {
        self.descriptor = descriptor
        self.companion = companion
        self.peer = peer
    }

    /// Gives the descriptor on; the companion has to be looked at before.
    package consuming func take() -> OwnedDescriptor { descriptor }
}
