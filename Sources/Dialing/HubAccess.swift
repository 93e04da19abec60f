import LinuxIO
import Synchronization
import TLS
import Wire

/// What this process needs to reach hubs, made once: whom to trust, which proxy, the resolver, and TLS sessions to resume.
package final class HubAccess: Sendable {
    private struct Parts {
        var resolver: Resolver?
        var sessions: [HostPort: TLSSessionCache] = [:]
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

    /// Resolves, with threads that start when the first name has to be looked up; addresses need none.
    package func resolve(
        _ host: String, port: UInt16, answerOn mailbox: Mailbox,
        _ answer: @escaping @Sendable (Result<[SocketAddress], Resolver.Failure>, Reactor) -> Void
    ) {
        if let literal = SocketAddress(address: host, port: port) {
            mailbox.send { answer(.success([literal]), $0) }
            return
        }
        let resolver = parts.withLock { parts in
            if parts.resolver == nil { parts.resolver = try? Resolver(threads: 1) }
            return parts.resolver
        }
        guard let resolver else {
            mailbox.send { answer(.failure(.system("cannot resolve \(host): no thread to do it")), $0) }
            return
        }
        resolver.resolve(host, port: port, answerOn: mailbox, answer)
    }
}
