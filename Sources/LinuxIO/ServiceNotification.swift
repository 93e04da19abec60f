import CLinux
import Glibc

/// Tells systemd how a daemon fares (sd_notify(3)); without systemd it does nothing.
package enum ServiceNotification {
    /// Sends lines such as `READY=1` or `STOPPING=1`.
    package static func send(_ text: String) {
        guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }), path.hasPrefix("/") || path.hasPrefix("@") else { return }
        let descriptor = clx_socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue))
        guard descriptor >= 0 else { return }
        let socket = OwnedDescriptor(adopting: descriptor)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var name = Array(path.utf8)
        if name[0] == UInt8(ascii: "@") { name[0] = 0 }  // the abstract namespace
        guard name.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
        let bytes = Array(text.utf8)
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                _ = sendto(socket.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL), raw, length)
            }
        }
    }
}
