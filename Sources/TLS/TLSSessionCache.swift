import COpenSSL
import Synchronization

/// The last ticket of one peer, so that the next connection to it resumes. Shared by the connections to that peer.
package final class TLSSessionCache: Sendable {
    private struct Ticket: @unchecked Sendable { let raw: OpaquePointer }  // SSL_SESSION*, counted with atomics

    private let ticket = Mutex<Ticket?>(nil)

    package init() {}

    deinit { ticket.withLock { if let old = exchange(&$0, with: nil) { SSL_SESSION_free(old.raw) } } }

    /// Takes over one reference.
    func keep(_ session: OpaquePointer?) {
        guard let session else { return }
        let new = Ticket(raw: session)
        ticket.withLock { if let old = exchange(&$0, with: new) { SSL_SESSION_free(old.raw) } }
    }

    func offer(to ssl: OpaquePointer) {
        ticket.withLock { if let known = $0 { SSL_set_session(ssl, known.raw) } }
    }
}
