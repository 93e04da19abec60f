import COpenSSL

/// The one application protocol that both ends of a session must name (ALPN, RFC 7301), and whom a server admits by it.
///
/// A server's session refuses a client that does not offer it, by the alert no_application_protocol; a client's session, a server that did
/// not take it.
final class TLSProtocolName {
    private let offer: [UInt8]  // as on the wire: a length and the name

    /// On a server: whether the client that shows this chain (DER, leaf first) is let in; nil: everybody is.
    private let judge: (([[UInt8]]) -> Bool)?

    /// On a server: how the client of the session that is being resumed proved who it is. Counts only when it was resumed in the end.
    var resumed: TLSServerSessions.Proof?

    /// How far a server's session is that may write ahead of the client's Finished, as TLS 1.3 allows it (RFC 8446 section 4.4.4): to one
    /// that resumes, and so has proved by its first flight who it is, where everybody is let in.
    enum Ahead {
        /// It does not, or no more.
        case no
        /// Its own flight is to come.
        case notYet
        /// It writes, and waits for the client's Finished.
        case writing
    }
    var ahead: Ahead

    /// - Parameters:
    ///   - name: 1 to 255 bytes.
    ///   - admits: see `judge`.
    ///   - writesAhead: see `Ahead`.
    init?(_ name: String, admits: (([[UInt8]]) -> Bool)? = nil, writesAhead: Bool = false) {
        judge = admits
        ahead = writesAhead ? .notYet : .no
        guard let length = UInt8(exactly: name.utf8.count), length > 0 else { return nil }
        offer = [length] + name.utf8
    }

    /// A client's session offers it.
    func offer(in ssl: OpaquePointer) -> Bool { SSL_set_alpn_protos(ssl, offer, UInt32(offer.count)) == 0 }

    /// A server's session expects it; the name must outlive `ssl`.
    func expect(in ssl: OpaquePointer) -> Bool { SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque()) == 1 }

    /// Makes the sessions of a server's context ask for the name that they expect.
    static func select(in context: OpaquePointer) {
        SSL_CTX_set_alpn_select_cb(
            context,
            { ssl, chosen, length, offered, count, _ in
                guard let ssl, let chosen, let length, let offered, let name = TLSProtocolName.of(ssl) else {
                    return SSL_TLSEXT_ERR_ALERT_FATAL
                }
                let list = UnsafeBufferPointer(start: offered, count: Int(count))
                guard let place = TLSProtocolName.place(of: name.offer, in: list) else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                chosen.pointee = offered + place
                length.pointee = UInt8(truncatingIfNeeded: name.offer.count - 1)
                return SSL_TLSEXT_ERR_OK
            }, nil)
    }

    /// What the session of `ssl` expects; nil for one of another kind of context.
    static func of(_ ssl: OpaquePointer) -> TLSProtocolName? {
        SSL_get_ex_data(ssl, 0).map { Unmanaged<TLSProtocolName>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Whether the client that shows this chain (DER, leaf first), or has shown it, is let in.
    func admits(_ chain: [[UInt8]]) -> Bool { judge?(chain) ?? true }

    /// Makes the sessions of a server's context refuse, by an alert, who is not admitted; nothing else is asked of the chain. A client
    /// without a certificate comes through: it is judged when the handshake is over.
    static func judge(in context: OpaquePointer) {
        SSL_CTX_set_cert_verify_callback(
            context,
            { store, _ in
                guard let store, let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
                    let name = TLSProtocolName.of(OpaquePointer(ssl))
                else { return 0 }
                guard name.judge != nil else { return 1 }
                let presented = X509_STORE_CTX_get0_untrusted(store)
                let chain = (0..<cssl_sk_x509_num(presented)).map { index in
                    cssl_sk_x509_value(presented, index).map { TLSTicketChain.encoded($0) } ?? []
                }
                if name.admits(chain) { return 1 }
                X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED)  // tells the client bad_certificate
                return 0
            }, nil)
    }

    /// Where in a client's list the name itself begins.
    private static func place(of wanted: [UInt8], in list: UnsafeBufferPointer<UInt8>) -> Int? {
        var position = 0
        while position < list.count {
            let end = position + 1 + Int(list[position])
            guard end <= list.count else { return nil }
            if list[position..<end].elementsEqual(wanted) { return position + 1 }
            position = end
        }
        return nil
    }

    /// Whether the handshake settled on it.
    func isChosen(by ssl: OpaquePointer) -> Bool {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &name, &count)
        return UnsafeBufferPointer(start: name, count: Int(count)).elementsEqual(offer.dropFirst())
    }
}
