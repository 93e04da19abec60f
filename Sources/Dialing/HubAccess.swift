import LinuxIO
import Synchronization
import TLS
import Wire

/// What a client shows in handshakes; it may change between two of them.
package struct ClientPair: Sendable {
    /// Leaf first.
    package let chain: CertificateChain
    package let key: PrivateKey
    /// Another number is another pair.
    package let generation: Int

    package init(chain: CertificateChain, key: PrivateKey, generation: Int) {
        self.chain = chain
        self.key = key
        self.generation = generation
    }
}

/// What this process needs to reach hubs, made once: whom to trust, which proxy, the resolver, and TLS sessions to resume.
package final class HubAccess: Sendable {
    private struct Parts {
        var context: TLSContext
        /// Of the pair that the context shows.
        var generation: Int?
        var resolver: Resolver?
        var sessions: [HostPort: TLSSessionCache] = [:]
        var names = NameCache()
        var spares: (mailbox: Mailbox, token: Token)?
    }

    package let proxies: ProxyChoice
    private let authorityPath: String?
    private let identity: (@Sendable () -> ClientPair)?
    private let takesNotYetValid: Bool
    private let parts: Mutex<Parts>
    /// Peers whose sessions are kept; more than a person's handful of hubs means that names are made up.
    private static let sessionLimit = 64

    /// Reads the file once; make a new one to take notice of another. Throws `file` and `system`.
    /// - Parameters:
    ///   - authorityPath: PEM of the roots to trust; nil for the system's store.
    ///   - identity: a device's own chain, where it has one, with its key. Asked before each connection, which shows the newest.
    ///   - takesNotYetValid: for devices whose clock may start in the past; see `TLSContext.client`.
    package init(
        authorityPath: String? = nil, identity: (@Sendable () -> ClientPair)? = nil, proxies: ProxyChoice = .none,
        takesNotYetValid: Bool = false
    ) throws(DialError) {
        let pair = identity?()
        let context: TLSContext
        do throws(TLSError) { context = try Self.context(authorityPath, pair, takesNotYetValid) } catch {
            switch error {
            case .file(let path, let reason): throw .file(path: path, reason: reason)
            default: throw .system("TLS cannot be set up: \(error)")
            }
        }
        parts = Mutex(Parts(context: context, generation: pair?.generation))
        self.authorityPath = authorityPath
        self.identity = identity
        self.takesNotYetValid = takesNotYetValid
        self.proxies = proxies
    }

    private static func context(_ authorityPath: String?, _ pair: ClientPair?, _ takesNotYetValid: Bool) throws(TLSError) -> TLSContext {
        try TLSContext.client(
            authorityPath: authorityPath, identity: pair.map { ($0.chain, $0.key) }, takesNotYetValid: takesNotYetValid)
    }

    /// What the next connection to this place is made with: the pair of now, and the session to resume. A session belongs to the pair it
    /// was made with.
    func means(for place: HostPort) -> (context: TLSContext, cache: TLSSessionCache) {
        let pair = identity?()
        return parts.withLock { parts in
            if let pair, pair.generation != parts.generation,
                let fresh = try? Self.context(authorityPath, pair, takesNotYetValid)
            {
                parts.context = fresh
                parts.generation = pair.generation
                parts.sessions.removeAll()
            }
            if let known = parts.sessions[place] { return (parts.context, known) }
            if parts.sessions.count >= Self.sessionLimit { parts.sessions.removeAll() }
            let fresh = TLSSessionCache()
            parts.sessions[place] = fresh
            return (parts.context, fresh)
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
