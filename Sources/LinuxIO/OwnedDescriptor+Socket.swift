import CLinux
import Glibc

/// What the owner of a connected TCP socket may want of the kernel.
extension OwnedDescriptor {
    /// With a look every five seconds, and the kernel's probes of an idle peer, a dead path is noticed within 20 seconds.
    package static let silentMilliseconds: UInt32 = 13_000

    /// Whether bytes we sent went unanswered for `milliseconds`: the path or the peer is gone. A reader that merely stopped reading is
    /// alive.
    package func isPathDead(silentMilliseconds milliseconds: UInt32 = silentMilliseconds) -> Bool {
        clx_path_is_dead(raw, milliseconds) == 1
    }

    /// Asks the kernel to probe an idle peer; the connection fails after `idle + 3 × interval` seconds of silence.
    package func keepAlive(idleSeconds: Int32 = 8, intervalSeconds: Int32 = 3) {
        _ = clx_set_keepalive(raw, idleSeconds, intervalSeconds, 3)
    }

    /// The next close sends RST instead of FIN.
    package func resetOnClose() { _ = clx_set_reset_on_close(raw) }

    /// What broke the socket, if anything did; told once.
    package var pendingError: SystemError? {
        var number: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        guard getsockopt(raw, SOL_SOCKET, SO_ERROR, &number, &length) == 0, number != 0 else { return nil }
        return SystemError("recv", number)
    }
}
