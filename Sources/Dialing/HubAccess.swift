import LinuxIO
import Synchronization
import TLS
import Wire

/// What this process needs to reach hubs, made once: whom to trust, which proxy, the resolver, and TLS sessions to resume.
package final class HubAccess: Sendable {
    private struct Parts {
        var resolver: Resolver?
        var sessions: [HostPort: TLSSessionCache] = [:]
        var names = NameCache()
        var spares: (mailbox: Mailbox, token: Token)?
    }

    let context: TLSContext
    package let proxies: ProxyChoice
    private let parts = Mutex(Parts())
    /// Peers whose sessions are kept; more than a person's handful of hubs means that names are made up.
    private static let sessionLimit = 64

    /// Reads the files once; make a new one to take notice of new files. Throws `file` and `system`.
    /// - Parameters:
    ///   - authorityPath: PEM of the roots to trust; nil for the system's store.
    ///   - certificatePath: a device's own chain, where it has one, with its key.
    ///   - takesNotYetValid: for devices whose clock may start in the past; see `TLSContext.client`.
    package init(
        authorityPath: String? = nil, certificatePath: String? = nil, keyPath: String? = nil, proxies: ProxyChoice = .none,
        takesNotYetValid: Bool = false
    ) throws(DialError) {
        do throws(TLSError) {
            context = try TLSContext.client(
                authorityPath: authorityPath, certificatePath: certificatePath, keyPath: keyPath,
                takesNotYetValid: takesNotYetValid)
        } catch {
            switch error {
            case .file(let path, let reason): throw .file(path: path, reason: reason)
            default: throw .system("TLS cannot be set up: \(error)")
            }
        }
        self.proxies = proxies
    }

    func session(for place: HostPort) -> TLSSessionCache {
        parts.withLock { parts in
            if let known = parts.sessions[place] { return known }
            if parts.sessions.count >= Self.sessionLimit { parts.sessions.removeAll() }
            let fresh = TLSSessionCache()
            parts.sessions[place] = fresh
            return fresh
        }
    }

    /// Addresses, and whether they are an answer of some time ago; nil: the name has to be looked up.
    struct Known {
        let addresses: [SocketAddress]
        let isRemembered: Bool
    }

    /// What can be said without waiting. Looks the name up again in the background when the answer is getting old.
    func known(_ host: String, port: UInt16, on reactor: Reactor) -> Known? {
        if let literal = SocketAddress(address: host, port: port) { return Known(addresses: [literal], isRemembered: false) }
        guard let known = parts.withLock({ $0.names.look(up: host, port, at: Clock.milliseconds) }) else { return nil }
        if known.wantsRefresh { lookUp(host, port: port, answerOn: reactor.mailbox) { _, _ in } }
        return Known(addresses: known.addresses, isRemembered: true)
    }

    /// None of the addresses of the name could be reached: the next one looks it up.
    func forget(_ host: String, port: UInt16) { parts.withLock { $0.names.forget(host, port) } }

    /// Resolves. Answers before it returns where nothing has to be looked up: for an address, and for a name whose answer is kept.
    package func resolve(
        _ host: String, port: UInt16, on reactor: Reactor,
        _ answer: @escaping @Sendable (Result<[SocketAddress], Resolver.Failure>, Reactor) -> Void
    ) {
        if let known = known(host, port: port, on: reactor) { return answer(.success(known.addresses), reactor) }
        lookUp(host, port: port, answerOn: reactor.mailbox, answer)
    }

    /// Resolves, with threads that start when the first name has to be looked up, and keeps the answer.
    func lookUp(
        _ host: String, port: UInt16, answerOn mailbox: Mailbox,
        _ answer: @escaping @Sendable (Result<[SocketAddress], Resolver.Failure>, Reactor) -> Void
    ) {
        let resolver = parts.withLock { parts in
            if parts.resolver == nil { parts.resolver = try? Resolver(threads: 1) }
            return parts.resolver
        }
        guard let resolver else {
            mailbox.send { answer(.failure(.system("cannot resolve \(host): no thread to do it")), $0) }
            return
        }
        resolver.resolve(host, port: port, answerOn: mailbox) { [self] result, reactor in
            if case .success(let addresses) = result {
                parts.withLock { $0.names.keep(addresses, of: host, port, at: Clock.milliseconds) }
            }
            answer(result, reactor)
        }
    }

    // Spare connections

    /// The spare connections of this reactor, if anybody keeps some.
    package func spares(on reactor: Reactor) -> SpareConnections? {
        guard let kept = parts.withLock({ $0.spares }), kept.mailbox === reactor.mailbox else { return nil }
        return reactor.source(kept.token) as? SpareConnections
    }

    func adopt(_ spares: SpareConnections, on reactor: Reactor) { parts.withLock { $0.spares = (reactor.mailbox, spares.token) } }
}
