import COpenSSL
import LinuxIO
import Synchronization

/// The secrets under which session tickets are sealed. One for a process, so that a session resumes on any reactor and after a
/// reload of the certificate; after a restart tickets are unknown and their holders make a full handshake.
///
/// Keys are changed with time, so that one that leaks from memory opens the TLS 1.2 sessions of half a day only (RFC 5077
/// section 5.5). The key before is kept for as long as its tickets live.
package final class TLSTicketKeys: Sendable {
    /// How long a ticket is good for.
    static let lifetimeSeconds: UInt64 = 7200

    private struct Keys {
        var current: TicketKey
        var previous: TicketKey?
        var changedAt: UInt64
    }

    private let keys: Mutex<Keys>
    private let rotationSeconds: UInt64

    /// - Parameter rotationSeconds: the age at which a key is replaced; not less than the lifetime of a ticket.
    package init(rotationSeconds: UInt64 = 12 * 3600) {
        self.rotationSeconds = max(rotationSeconds, Self.lifetimeSeconds)
        keys = Mutex(Keys(current: TicketKey(), previous: nil, changedAt: Self.now))
    }

    private static var now: UInt64 { Clock.milliseconds / 1000 }

    /// The key to seal with. `now` is in seconds of the monotonic clock.
    func sealing(now: UInt64 = now) -> TicketKey {
        keys.withLock { keys in
            rotate(&keys, now)
            return keys.current
        }
    }

    /// The key with this name, and whether a ticket sealed with it should be replaced; nil for a key that is unknown or too old.
    func opening(_ name: UnsafeRawBufferPointer, now: UInt64 = now) -> (key: TicketKey, isOld: Bool)? {
        keys.withLock { keys in
            rotate(&keys, now)
            if keys.current.isNamed(name) { return (keys.current, false) }
            if let previous = keys.previous, previous.isNamed(name) { return (previous, true) }
            return nil
        }
    }

    private func rotate(_ keys: inout Keys, _ now: UInt64) {
        let age = now &- keys.changedAt
        if age >= rotationSeconds {
            keys.previous = age < rotationSeconds + Self.lifetimeSeconds ? keys.current : nil
            keys.current = TicketKey()
            keys.changedAt = now
        } else if age >= Self.lifetimeSeconds {
            keys.previous = nil
        }
    }

    /// Makes a server's context seal and open its tickets with these keys, which must outlive its sessions.
    func install(in context: OpaquePointer) -> Bool {
        SSL_CTX_set_ex_data(context, 0, Unmanaged.passUnretained(self).toOpaque()) == 1
            && SSL_CTX_set_tlsext_ticket_key_evp_cb(context) { ssl, name, vector, cipher, mac, isSealing in
                guard let ssl, let name, let vector, let cipher, let mac, let owner = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), 0) else {
                    return -1
                }
                let keys = Unmanaged<TLSTicketKeys>.fromOpaque(owner).takeUnretainedValue()
                if isSealing == 1 {
                    return keys.sealing().seal(name, vector, cipher, mac) ? 1 : -1
                }
                guard let found = keys.opening(UnsafeRawBufferPointer(start: name, count: TicketKey.nameBytes)) else { return 0 }
                guard found.key.open(vector, cipher, mac) else { return -1 }
                return found.isOld ? 2 : 1
            } == 1
    }
}

/// One key: its name, which stands in the ticket, and the secrets for AES-256-CBC and HMAC-SHA-256.
///
/// Unchecked Sendable: never changed between init and deinit.
final class TicketKey: @unchecked Sendable {
    static let nameBytes = 16
    private let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 80, alignment: 16)  // name, cipher key, MAC key

    init() {
        // Without randomness there is no sealing either: RAND_bytes for the vector fails the same way.
        _ = RAND_priv_bytes(bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), CInt(bytes.count))
    }

    deinit {
        OPENSSL_cleanse(bytes.baseAddress, bytes.count)
        bytes.deallocate()
    }

    private func part(_ range: Range<Int>) -> UnsafePointer<UInt8>? {
        UnsafeRawBufferPointer(rebasing: bytes[range]).baseAddress?.assumingMemoryBound(to: UInt8.self)
    }

    var name: [UInt8] { Array(bytes[..<Self.nameBytes]) }
    func isNamed(_ name: UnsafeRawBufferPointer) -> Bool { name.elementsEqual(bytes[..<Self.nameBytes]) }

    fileprivate func seal(
        _ name: UnsafeMutablePointer<UInt8>, _ vector: UnsafeMutablePointer<UInt8>, _ cipher: OpaquePointer, _ mac: OpaquePointer
    ) -> Bool {
        UnsafeMutableRawBufferPointer(start: name, count: Self.nameBytes).copyBytes(from: bytes[..<Self.nameBytes])
        return RAND_bytes(vector, 16) == 1 && EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), nil, part(16..<48), vector) == 1
            && prepare(mac)
    }

    fileprivate func open(_ vector: UnsafeMutablePointer<UInt8>, _ cipher: OpaquePointer, _ mac: OpaquePointer) -> Bool {
        EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), nil, part(16..<48), vector) == 1 && prepare(mac)
    }

    private func prepare(_ mac: OpaquePointer) -> Bool { cssl_mac_init_sha256(mac, part(48..<80), 32) == 1 }
}
