import COpenSSL

/// A client's whole chain inside its session ticket. OpenSSL keeps the leaf alone there; a device whose authority is known
/// only through its intermediates could not be judged after a resumption.
enum TLSTicketChain {
    /// Bytes of certificates that go into a ticket; a longer chain is presented anew each time.
    private static let limit = 8 << 10

    /// Makes a server's context keep chains. A chain too long for the ticket leaves a mark, and the ticket is not taken.
    static func install(in context: OpaquePointer) -> Bool {
        SSL_CTX_set_session_ticket_cb(
            context,
            { ssl, _ in
                guard let ssl, let session = SSL_get_session(ssl) else { return 1 }
                var bytes: [UInt8] = []
                for der in TLSSession.wholeChain(of: ssl) {
                    withUnsafeBytes(of: UInt32(der.count).bigEndian) { bytes.append(contentsOf: $0) }
                    bytes.append(contentsOf: der)
                }
                if bytes.count > TLSTicketChain.limit { bytes = [0] }
                return bytes.isEmpty ? 1 : SSL_SESSION_set1_ticket_appdata(session, bytes, bytes.count)
            },
            { _, session, _, _, status, _ in
                switch status {
                case SSL_TICKET_SUCCESS, SSL_TICKET_SUCCESS_RENEW:
                    if let session, TLSTicketChain.bytes(of: session).count == 1 { return SSL_TICKET_RETURN_IGNORE_RENEW }
                    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW
                default: return SSL_TICKET_RETURN_IGNORE_RENEW
                }
            }, nil) == 1
    }

    /// The chain of a resumed session, leaf first, DER; empty when the client showed none.
    static func chain(of session: OpaquePointer) -> [[UInt8]] {
        var rest = bytes(of: session)[...]
        var found: [[UInt8]] = []
        while rest.count >= 4 {
            let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
            rest = rest.dropFirst(4)
            guard length > 0, length <= rest.count else { return found }
            found.append(Array(rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        return found
    }

    private static func bytes(of session: OpaquePointer) -> [UInt8] {
        var data: UnsafeMutableRawPointer?
        var length = 0
        guard SSL_SESSION_get0_ticket_appdata(session, &data, &length) == 1, let data, length > 0 else { return [] }
        return Array(UnsafeRawBufferPointer(start: data, count: length))
    }
}
