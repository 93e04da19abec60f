import Bytes
import Connections
import Glibc
import LinuxIO
import Synchronization
import TLS

/// What a script does with what came.
package struct Reply: ~Copyable {
    package enum End { case finish, reset }

    package var output = ByteQueue()
    package var end: End?
    /// Bytes of the input that were used; what is left is offered again with more behind it.
    package var used = 0
}

/// One connection's behaviour, made and run on the server's thread.
package protocol Script: AnyObject {
    func received(_ bytes: RawSpan, _ reply: inout Reply)
}

/// A server on 127.0.0.1 that does what a test tells it to, with TLS or without.
package final class ServerDouble: Sendable {
    package let port: UInt16
    private let mailbox: Mailbox
    private let thread: LinuxIO.Thread
    private let accepted: Accepted

    private final class Accepted: Sendable {
        let count = Mutex(0)
    }

    /// Connections so far.
    package var connectionCount: Int { accepted.count.withLock { $0 } }

    /// - Parameters:
    ///   - port: 0 picks a free one.
    ///   - script: is given the number of the connection, from 0.
    package init(isPlain: Bool = false, port wanted: UInt16 = 0, script: @escaping @Sendable (Int) -> any Script) throws {
        signal(SIGPIPE, SIG_IGN)  // as every role does: TLS writes with write(2)
        let context = isPlain ? nil : try Credentials.shared.get().serverContext()
        guard let address = SocketAddress(address: "127.0.0.1", port: wanted) else { throw SystemError("bind", EINVAL) }
        let socket = try Listener.open(at: address)
        guard let port = SocketAddress.local(of: socket.raw)?.port else { throw SystemError("getsockname") }
        self.port = port
        let accepted = Accepted()
        self.accepted = accepted
        let crate = Mutex<OwnedDescriptor?>(socket)
        (mailbox, thread) = try Reactor.start { reactor in
            guard let socket = crate.withLock({ $0.take() }) else { return }
            _ = try? Listener(socket, on: reactor) { socket, _, reactor in
                let number = accepted.count.withLock { count in
                    count += 1
                    return count - 1
                }
                if let context {
                    guard let transport = try? Transport(accepting: socket, context) else { return }
                    Performance(Channel(transport), script(number)).start(on: reactor)
                } else {
                    Performance(Channel(Transport(socket)), script(number)).start(on: reactor)
                }
            }
        }
    }

    /// Closes the listener and every connection.
    package func stop() {
        mailbox.send { $0.stop() }
        thread.join()
    }
}

private final class Performance: Connection {
    let script: any Script

    init(_ channel: consuming Channel, _ script: any Script) {
        self.script = script
        super.init(channel)
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        var reply = Reply()
        script.received(bytes, &reply)
        reply.output.withBytes { channel.output.append($0) }
        switch reply.end {
        case .finish: channel.finish()
        case .reset: channel.reset()
        case nil: break
        }
        return reply.used
    }
}

/// A root and a certificate for `localhost` and 127.0.0.1, made once for a test run.
package struct Credentials: Sendable {
    package let rootPath: String
    private let chainPath: String, keyPath: String

    package static let shared: Result<Credentials, any Error> = Result { try Credentials() }

    private init() throws {
        var template = Array("/tmp/iotstream-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let now = Clock.unixSeconds
        let rootKey = try PrivateKey(generating: .p256), key = try PrivateKey(generating: .p256)
        let root = try Certificate.root(commonName: "test root", key: rootKey, seconds: 86400, now: now)
        let leaf = try CertificateAuthority(certificate: root, key: rootKey).issue(
            .server(names: [.dns("localhost"), .address([127, 0, 0, 1])]), commonName: "localhost", for: key, seconds: 86400, now: now)
        rootPath = "\(directory)/root.pem"
        chainPath = "\(directory)/chain.pem"
        keyPath = "\(directory)/key.pem"
        try Files.create(rootPath, with: Array(root.pem.utf8), mode: 0o644)
        try Files.create(chainPath, with: Array(leaf.pem.utf8), mode: 0o644)
        try Files.create(keyPath, with: key.pem(), mode: 0o600)
    }

    fileprivate func serverContext() throws -> TLSContext {
        try TLSContext.server(certificatePath: chainPath, keyPath: keyPath, tickets: TLSTicketKeys())
    }
}
