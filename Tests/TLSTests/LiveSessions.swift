import Bytes
import COpenSSL
import Connections
import Glibc
import LinuxIO
import Synchronization
import Testing

@testable import TLS

private let day: Int64 = 86_400

/// Certificates in files, as programs have them: a root, an intermediate, servers and a device below it.
final class CertificateFolder {
    let path: String
    let root, middle: CertificateAuthority
    let now = Clock.unixSeconds

    init() throws {
        signal(SIGPIPE, SIG_IGN)
        var name = Array("/tmp/iotstream-tls.XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&name))
        path = String(cString: made)
        let key = try PrivateKey(generating: .p256), below = try PrivateKey(generating: .p256)
        root = try CertificateAuthority(
            certificate: .root(commonName: "Root", key: key, seconds: 400 * day, now: now - 100 * day), key: key)
        let certificate = try root.issue(
            .intermediate(pathLength: 0), commonName: "Middle", for: below, seconds: 300 * day, now: now - 90 * day)
        middle = try CertificateAuthority(certificate: certificate, key: below)
        try Files.replace("\(path)/root.pem", with: Array(root.certificate.pem.utf8), isDurable: false)
    }

    deinit {
        for name in (try? Files.names(in: path)) ?? [] { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    var rootPath: String { "\(path)/root.pem" }

    /// Writes a leaf's chain and key; the names are NAME.pem and NAME.key.
    @discardableResult
    func issue(_ role: CertificateRole, _ name: String, startingInDays start: Int64 = 0, days: Int64 = 10) throws -> CertificateChain {
        let key = try PrivateKey(generating: .p256)
        let leaf = try middle.issue(role, commonName: name, for: key, seconds: days * day, now: now + start * day)
        let chain = CertificateChain(leaf: leaf, others: [middle.certificate])
        try Files.replace("\(path)/\(name).pem", with: Array(chain.pem.utf8), isDurable: false)
        try Files.replace("\(path)/\(name).key", with: try key.pem(), isDurable: false)
        return chain
    }

    func server(_ name: String = "hub.example", tickets: TLSTicketKeys = TLSTicketKeys()) throws -> TLSContext {
        if !Files.exists("\(path)/\(name).pem") { try issue(.server(names: [.dns(name), .address([127, 0, 0, 1])]), name) }
        return try TLSContext.server(certificatePath: "\(path)/\(name).pem", keyPath: "\(path)/\(name).key", tickets: tickets)
    }

    func client(as device: String? = nil, newest: CInt = TLS1_3_VERSION) throws -> TLSContext {
        let identity = try device.map { (try CertificateChain(path: "\(path)/\($0).pem"), try PrivateKey(path: "\(path)/\($0).key")) }
        let context = try TLSContext.client(authorityPath: rootPath, identity: identity)
        #expect(cssl_ctx_set_max_version(context.raw, newest) == 1)
        return context
    }
}

/// What one end of a connection saw.
final class Seen: Sendable {
    struct State: Sendable {
        var isOpen = false, isResumed = false
        var version: String?
        var chain: [[UInt8]] = []
        var bytes: [UInt8] = []
        var hasEnded = false
        var reason: CloseReason?
    }

    private let state = Mutex(State())

    func note(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }
    var now: State { state.withLock { $0 } }

    /// Waits until something is so, ten seconds at most.
    func wait(_ isSo: (State) -> Bool) -> State {
        let end = Clock.milliseconds + 10_000
        while !isSo(now), Clock.milliseconds < end { usleep(500) }
        return now
    }
}

/// An end that writes down what it sees. A server's answers each byte with itself, and moves to `other` at the first `>`.
final class Witness: Connection {
    let seen: Seen
    let echoes: Bool
    let other: Mailbox?

    init(_ channel: consuming Channel, _ seen: Seen, echoes: Bool = false, movesTo other: Mailbox? = nil) {
        (self.seen, self.echoes, self.other) = (seen, echoes, other)
        super.init(channel)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        let resumed = channel.transport.isResumed, version = channel.transport.version, chain = channel.peerChain
        seen.note { ($0.isOpen, $0.isResumed, $0.version, $0.chain) = (true, resumed, version, chain) }
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        let array = bytes.toArray()
        seen.note { $0.bytes += array }
        guard echoes else { return array.count }
        if let other, let place = array.firstIndex(of: UInt8(ascii: ">")) {
            channel.output.append(array[...place])
            let seen = seen
            channel.move(to: other) { channel, _ in Witness(channel, seen, echoes: true) }
            return place + 1
        }
        channel.output.append(array)
        return array.count
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        seen.note { $0.hasEnded = true }
        channel.finish()
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) { seen.note { $0.reason = reason } }
}

/// A server on one reactor, clients on another.
final class Site {
    private let here: (mailbox: Mailbox, thread: Thread), there: (mailbox: Mailbox, thread: Thread)
    let port: UInt16
    private final class Box: Sendable { let seen = Mutex<[Seen]>([]) }
    private let box: Box

    /// - Parameter context: nil for a server without TLS.
    init(_ context: TLSContext?) throws {
        here = try Reactor.start { _ in }
        there = try Reactor.start { _ in }
        let box = Box(), port = Mutex<UInt16?>(nil), other = there.mailbox
        self.box = box
        here.mailbox.send { reactor in
            guard let address = SocketAddress(address: "127.0.0.1", port: 0), let socket = try? Listener.open(at: address) else { return }
            let listener = try? Listener(socket, on: reactor) { socket, _, reactor in
                let seen = Seen()
                box.seen.withLock { $0.append(seen) }
                guard let context else { return Witness(Channel(Transport(socket)), seen).start(on: reactor) }
                guard let transport = try? Transport(accepting: socket, context) else { return }
                Witness(Channel(transport), seen, echoes: true, movesTo: other).start(on: reactor)
            }
            port.withLock { $0 = listener?.address?.port }
        }
        while port.withLock({ $0 }) == nil { sched_yield() }
        self.port = try #require(port.withLock { $0 })
    }

    deinit {
        for side in [here, there] {
            side.mailbox.send { $0.stop() }
            side.thread.join()
        }
    }

    /// The server's end number `index`, in the order of accepting.
    func server(_ index: Int = 0) throws -> Seen {
        let end = Clock.milliseconds + 10_000
        while box.seen.withLock({ $0.count }) <= index, Clock.milliseconds < end { usleep(500) }
        return try #require(box.seen.withLock { $0.indices.contains(index) ? $0[index] : nil })
    }

    /// Says something on every connection of the server.
    func answer(_ text: String) {
        here.mailbox.send { reactor in
            for source in reactor.sources { (source as? Witness)?.send(text.utf8Span.span.bytes, on: reactor) }
        }
    }

    /// A blocking plain socket to the server.
    func socket() throws -> OwnedDescriptor {
        let socket = OwnedDescriptor(adopting: Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0))
        let address = try #require(SocketAddress(address: "127.0.0.1", port: port))
        try #require(address.withSockaddr { Glibc.connect(socket.raw, $0, $1) } == 0)
        return socket
    }

    /// Begins a TLS connection to the server.
    func connect(_ context: TLSContext, host: String = "hub.example", cache: TLSSessionCache? = nil) throws -> Client {
        let socket = try socket()
        _ = fcntl(socket.raw, F_SETFL, O_NONBLOCK)
        let raw = socket.raw
        let transport = try Transport(connecting: socket, context, host: host, cache: cache)
        let seen = Seen()
        there.mailbox.adopt(Channel(transport)) { channel, _ in Witness(channel, seen) }
        return Client(seen: seen, raw: raw, mailbox: there.mailbox, site: self)
    }

    /// A connection that is open, has carried a byte both ways, and so has its ticket.
    func open(_ context: TLSContext, host: String = "hub.example", cache: TLSSessionCache? = nil) throws -> Client {
        let client = try connect(context, host: host, cache: cache)
        _ = client.seen.wait { $0.isOpen || $0.reason != nil }
        client.send([7])
        _ = client.seen.wait { !$0.bytes.isEmpty || $0.reason != nil }
        return client
    }
}

struct Client {
    let seen: Seen
    let raw: CInt
    let mailbox: Mailbox
    let site: Site

    /// Does something to the connection on its reactor.
    func act(_ body: @escaping @Sendable (Connection, Reactor) -> Void) {
        let seen = seen
        mailbox.send { reactor in
            for source in reactor.sources {
                if let witness = source as? Witness, witness.seen === seen { body(witness, reactor) }
            }
        }
    }

    func send(_ bytes: [UInt8]) { act { $0.send(bytes.span.bytes, on: $1) } }
}
