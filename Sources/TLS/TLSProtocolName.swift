import COpenSSL

/// The one application protocol that both ends of a session must name (ALPN, RFC 7301).
///
/// A server's session refuses a client that does not offer it, by the alert no_application_protocol; a client's session, a server that did
/// not take it.
final class TLSProtocolName {
    private let offer: [UInt8]  // as on the wire: a length and the name

    /// - Parameter name: 1 to 255 bytes.
    init?(_ name: String) {
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
                guard let ssl, let chosen, let length, let offered, let note = SSL_get_ex_data(ssl, 0) else {
                    return SSL_TLSEXT_ERR_ALERT_FATAL
                }
                let name = Unmanaged<TLSProtocolName>.fromOpaque(note).takeUnretainedValue()
                let list = UnsafeBufferPointer(start: offered, count: Int(count))
                guard let place = TLSProtocolName.place(of: name.offer, in: list) else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                chosen.pointee = offered + place
                length.pointee = UInt8(truncatingIfNeeded: name.offer.count - 1)
                return SSL_TLSEXT_ERR_OK
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
