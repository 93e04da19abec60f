import COpenSSL
import Glibc
import Synchronization

/// The newest tickets of one peer, so that the next connections to it resume. Shared by the connections to that peer.
///
/// A ticket is offered only for the host and under the context it was got with: a resumed session shows no certificate, so the
/// check of its name and its chain must have been made by the same rules.
package final class TLSSessionCache: Sendable {
    private struct Ticket: @unchecked Sendable {
        let raw: OpaquePointer  // SSL_SESSION*, counted with atomics
        let host: String
        let context: UInt64
    }

    /// Many, because connections are made side by side and a ticket of TLS 1.3 is to be used once, lest an observer see who comes back
    /// (RFC 8446 appendix C.4). The last one is kept all the same, for connections of a burst: they come from one address anyway.
    private static let limit = 64
    private let tickets = Mutex<[Ticket]>([])  // newest last

    package init() {}

    deinit { forget() }

    /// How many tickets there are.
    package var count: Int { tickets.withLock { $0.count } }

    /// Forgets all: a handshake with one of them failed.
    package func forget() {
        for old in tickets.withLock({ exchange(&$0, with: []) }) { SSL_SESSION_free(old.raw) }
    }

    /// Takes over one reference.
    func keep(_ session: OpaquePointer, host: String, context: UInt64) {
        let isReusable = SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION
        let old = tickets.withLock { tickets in
            // One session of TLS 1.2 serves any number of connections.
            var dropped = isReusable ? tickets.filter { SSL_SESSION_get_protocol_version($0.raw) < TLS1_3_VERSION } : []
            if isReusable { tickets.removeAll { SSL_SESSION_get_protocol_version($0.raw) < TLS1_3_VERSION } }
            if tickets.count >= Self.limit { dropped.append(tickets.removeFirst()) }
            tickets.append(Ticket(raw: session, host: host, context: context))
            return dropped
        }
        for ticket in old { SSL_SESSION_free(ticket.raw) }
    }

    /// Offers the newest ticket that fits; true when there was one.
    func offer(to ssl: OpaquePointer, host: String, context: UInt64) -> Bool {
        let now = Int(time(nil))
        let (found, old) = tickets.withLock { tickets in
            let stale = tickets.filter { Self.isStale($0.raw, now: now) }
            tickets.removeAll { Self.isStale($0.raw, now: now) }
            func fits(_ ticket: Ticket) -> Bool { ticket.host == host && ticket.context == context }
            guard let index = tickets.lastIndex(where: fits) else { return (Ticket?.none, stale) }
            let ticket = tickets[index]
            if SSL_SESSION_get_protocol_version(ticket.raw) >= TLS1_3_VERSION, tickets[..<index].contains(where: fits) {
                tickets.remove(at: index)
            } else {
                SSL_SESSION_up_ref(ticket.raw)
            }
            return (ticket, stale)
        }
        for ticket in old { SSL_SESSION_free(ticket.raw) }
        guard let found else { return false }
        defer { SSL_SESSION_free(found.raw) }
        return SSL_set_session(ssl, found.raw) == 1
    }

    private static func isStale(_ session: OpaquePointer, now: Int) -> Bool {
        let age = now - SSL_SESSION_get_time(session)
        return age < 0 || age >= SSL_SESSION_get_timeout(session) || SSL_SESSION_is_resumable(session) == 0
    }
}
