import CLinux
import Glibc
import Synchronization

/// Names to addresses, off the reactors, with the last good answer kept for when the name server is away.
package final class Resolver: Sendable {
    package enum Failure: Error, CustomStringConvertible {
        case notFound(String), system(String)

        package var description: String {
            switch self {
            case .notFound(let text), .system(let text): text
            }
        }
    }

    private let worker: Worker
    private let lastGood = Mutex<[String: [SocketAddress]]>([:])

    /// - Parameter threads: names that can be looked up at the same time.
    package init(threads: Int = 2) throws(SystemError) { worker = try Worker(threads: threads) }

    /// Resolves and answers on the mailbox; addresses come in the order of RFC 6724, as `getaddrinfo` sorts them.
    package func resolve(
        _ host: String, port: UInt16, answerOn mailbox: Mailbox,
        _ answer: @escaping @Sendable (Result<[SocketAddress], Failure>, Reactor) -> Void
    ) {
        if let literal = SocketAddress(address: host, port: port) {
            mailbox.send { answer(.success([literal]), $0) }
            return
        }
        let isTaken = worker.submit { [self] in
            let result = lookUp(host, port: port)
            mailbox.send { answer(result, $0) }
        }
        if !isTaken { mailbox.send { answer(.failure(.system("shutting down")), $0) } }
    }

    private func lookUp(_ host: String, port: UInt16) -> Result<[SocketAddress], Failure> {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let key = "\(host):\(port)", code = getaddrinfo(host, String(port), &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        guard code == 0 else {
            if let known = lastGood.withLock({ $0[key] }) { return .success(known) }
            let reason = String(cString: gai_strerror(code))
            return .failure(code == EAI_NONAME ? .notFound("no address for \(host)") : .system("cannot resolve \(host): \(reason)"))
        }
        var found: [SocketAddress] = []
        var next = list
        while let entry = next {
            if let address = entry.pointee.ai_addr, let value = SocketAddress(address) { found.append(value) }
            next = entry.pointee.ai_next
        }
        guard !found.isEmpty else { return .failure(.notFound("no address for \(host)")) }
        lastGood.withLock { $0[key] = found }
        return .success(found)
    }
}
