import COpenSSL
import LinuxIO

/// What a server's ticket carries of a client that presented a certificate. OpenSSL puts the leaf into a ticket and forgets the
/// rest of the chain, which a decision at the identity needs (attestation section 6).
///
///     byte 0      1: whole, 2: the chain was too long, so the ticket must not be used
///     1 to 8      when the client proved that it has the key: unix seconds, big endian
///     then        every certificate above the leaf: 3 bytes of length, big endian, and the DER
enum TLSTicketChain {
    /// The longest chain, without its leaf, that goes into a ticket, in bytes.
    static let limit = 8192
    /// After this time the client has to prove again that it has the key, however often its tickets were renewed.
    static let proofSeconds: Int64 = 24 * 3600

    /// Makes the tickets of a server's context carry the chain.
    static func install(in context: OpaquePointer) -> Bool {
        SSL_CTX_set_session_ticket_cb(
            context,
            { ssl, _ in
                if let ssl { TLSTicketChain.attach(to: ssl) }
                return 1
            },
            { _, session, _, _, status, _ in
                switch status {
                case SSL_TICKET_SUCCESS, SSL_TICKET_SUCCESS_RENEW:
                    guard let session, TLSTicketChain.isUsable(session, now: Clock.unixSeconds) else {
                        return SSL_TICKET_RETURN_IGNORE_RENEW
                    }
                    // A ticket of TLS 1.3 is used once, so its holder needs the next one.
                    let renews = status == SSL_TICKET_SUCCESS_RENEW || SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION
                    return renews ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE
                default: return SSL_TICKET_RETURN_IGNORE_RENEW
                }
            }, nil) == 1
    }

    /// Puts the chain beside the session that is about to be sealed. A resumed session has it already.
    private static func attach(to ssl: OpaquePointer) {
        guard SSL_session_reused(ssl) == 0, let session = SSL_get_session(ssl), let leaf = SSL_get0_peer_certificate(ssl) else { return }
        let data = encode(above(leaf, in: SSL_get_peer_cert_chain(ssl)), provenAt: Clock.unixSeconds)
        SSL_SESSION_set1_ticket_appdata(session, data, data.count)
    }

    /// What the client of a full handshake has presented, DER, leaf first; empty when it showed nothing.
    static func presented(to ssl: OpaquePointer) -> [[UInt8]] {
        guard let leaf = SSL_get0_peer_certificate(ssl) else { return [] }
        return [encoded(leaf)] + above(leaf, in: SSL_get_peer_cert_chain(ssl))
    }

    /// The presented certificates without the leaf, DER.
    static func above(_ leaf: OpaquePointer, in stack: OpaquePointer?) -> [[UInt8]] {
        var others: [[UInt8]] = []
        for index in 0..<cssl_sk_x509_num(stack) {
            guard let certificate = cssl_sk_x509_value(stack, index) else { continue }
            if index == 0, X509_cmp(certificate, leaf) == 0 { continue }  // a client's own list begins with the leaf
            others.append(encoded(certificate))
        }
        return others
    }

    static func encoded(_ certificate: OpaquePointer) -> [UInt8] {
        let length = i2d_X509(certificate, nil)
        guard length > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: Int(length)) { buffer, count in
            var next = buffer.baseAddress
            count = Int(max(0, i2d_X509(certificate, &next)))
        }
    }

    static func encode(_ others: [[UInt8]], provenAt: Int64) -> [UInt8] {
        let isWhole = others.reduce(0) { $0 + $1.count + 3 } <= limit
        var data: [UInt8] = [isWhole ? 1 : 2]
        withUnsafeBytes(of: provenAt.bigEndian) { data.append(contentsOf: $0) }
        for other in isWhole ? others : [] {
            withUnsafeBytes(of: UInt32(other.count).bigEndian) { data.append(contentsOf: $0.dropFirst()) }
            data.append(contentsOf: other)
        }
        return data
    }

    /// The certificates above the leaf and the time of the proof; nil when this is not such data or not whole.
    static func decode(_ data: UnsafeRawBufferPointer) -> (others: [[UInt8]], provenAt: Int64)? {
        guard data.count >= 9, data[0] == 1 else { return nil }
        let provenAt = data[1..<9].reduce(Int64(0)) { $0 << 8 | Int64($1) }
        var rest = data[9...], others: [[UInt8]] = []
        while !rest.isEmpty {
            let length = rest.prefix(3).reduce(0) { $0 << 8 | Int($1) }
            guard rest.count >= 3 + length else { return nil }
            others.append(Array(rest.dropFirst(3).prefix(length)))
            rest = rest.dropFirst(3 + length)
        }
        return (others, provenAt)
    }

    /// What the ticket of a resumed session brought.
    static func read(_ session: OpaquePointer) -> (others: [[UInt8]], provenAt: Int64)? {
        var start: UnsafeMutableRawPointer?
        var count = 0
        guard SSL_SESSION_get0_ticket_appdata(session, &start, &count) == 1, let start else { return nil }
        return decode(UnsafeRawBufferPointer(start: start, count: count))
    }

    /// Whether a session may resume: a client that showed a certificate comes back with its whole chain and a fresh proof.
    private static func isUsable(_ session: OpaquePointer, now: Int64) -> Bool {
        guard SSL_SESSION_get0_peer(session) != nil else { return true }
        guard let known = read(session) else { return false }
        return isFresh(provenAt: known.provenAt, now: now)
    }

    /// Whether a proof of so long ago will still do; a clock may have been set back a little. Both are unix seconds.
    static func isFresh(provenAt: Int64, now: Int64) -> Bool {
        let (age, isTooMuch) = now.subtractingReportingOverflow(provenAt)
        return !isTooMuch && age >= -300 && age < proofSeconds
    }
}
