import Bytes
import Connections
import Glibc
import LinuxIO
import Synchronization
import TLS
import Testing

/// Leaves TLS as soon as it is open, and hands the socket to the test.
private final class Leaver: Connection {
    final class Place: Sendable {
        let raw = Mutex<CInt?>(nil)
        let reason = Mutex<CloseReason?>(nil)

        /// The bare socket, once it is there.
        func socket() throws -> OwnedDescriptor {
            let end = Clock.milliseconds + 10_000
            while raw.withLock({ $0 }) == nil, Clock.milliseconds < end { usleep(500) }
            return OwnedDescriptor(adopting: try #require(raw.withLock { $0 }, "\(String(describing: reason.withLock { $0 }))"))
        }
    }

    private let place: Place
    private let lastWords: String

    init(_ channel: consuming Channel, _ place: Place, saying lastWords: String = "") {
        (self.place, self.lastWords) = (place, lastWords)
        super.init(channel)
    }

    override func opened(_ channel: inout Channel, on reactor: Reactor) throws {
        channel.output.append(lastWords)
        channel.bare()
    }

    override func bared(_ socket: consuming BareSocket, on reactor: Reactor) {
        let raw = socket.take().release()
        place.raw.withLock { $0 = raw }
    }

    override func closed(_ reason: CloseReason, on reactor: Reactor) { place.reason.withLock { $0 = reason } }
}

@Suite struct EndToEndTests {
    private let folder: CertificateFolder
    private let here: (mailbox: Mailbox, thread: Thread)

    init() throws {
        folder = try CertificateFolder()
        here = try Reactor.start { _ in }
    }

    private func end() {
        here.mailbox.send { $0.stop() }
        here.thread.join()
    }

    /// Both ends of a connection, non-blocking.
    private func pair() throws -> (CInt, CInt) {
        var ends: [CInt] = [0, 0]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0, &ends) == 0)
        return (ends[0], ends[1])
    }

    private func own(_ name: String) throws -> (CertificateChain, PrivateKey) {
        let key = try PrivateKey(generating: .p256)
        let certificate = try folder.root.issue(.client, commonName: name, for: key, seconds: 86_400, now: folder.now)
        return (CertificateChain(leaf: certificate, others: []), key)
    }

    /// One session, with a byte from the server, behind which the client has its ticket.
    private func meet(
        _ server: TLSContext, _ client: TLSContext, names: (server: String, client: String), cache: TLSSessionCache,
        admits: (@Sendable ([[UInt8]]) -> Bool)? = nil
    ) throws -> (server: Seen, client: Seen) {
        let (one, two) = try pair()
        let device = Seen(), service = Seen()
        let accepting = try Transport(
            accepting: OwnedDescriptor(adopting: one), endToEnd: server, protocolName: names.server, admits: admits)
        let connecting = try Transport(
            connecting: OwnedDescriptor(adopting: two), endToEnd: client, peer: "press-17", protocolName: names.client, cache: cache)
        here.mailbox.adopt(Channel(accepting)) { channel, _ in Witness(channel, device, echoes: true) }
        here.mailbox.adopt(Channel(connecting)) { channel, _ in Witness(channel, service) }
        _ = service.wait { $0.isOpen || $0.reason != nil }
        here.mailbox.send { reactor in
            for source in reactor.sources {
                if let witness = source as? Witness, witness.seen === service { witness.send([UInt8(7)].span.bytes, on: reactor) }
            }
        }
        return (device, service)
    }

    @Test func `Both ends see the other's certificate, also when they resume`() throws {
        defer { end() }
        let device = try own("press-17"), service = try own("service")
        let server = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        let client = try TLSContext.endToEndClient(chain: service.0, key: service.1)
        let cache = TLSSessionCache()
        for round in 0..<3 {
            let (there, here) = try meet(server, client, names: ("iotstream/a", "iotstream/a"), cache: cache)
            let mine = here.wait { !$0.bytes.isEmpty || $0.reason != nil }
            let theirs = there.wait { !$0.bytes.isEmpty || $0.reason != nil }
            #expect(mine.bytes == [7] && mine.version == "TLSv1.3")
            #expect(mine.chain == [device.0.leaf.der], "round \(round)")
            #expect(theirs.chain == [service.0.leaf.der], "round \(round)")
            #expect(mine.isResumed == (round > 0) && theirs.isResumed == (round > 0))
        }
    }

    @Test func `Who is not admitted any more is refused with a good ticket in hand, and resumes again once admitted`() throws {
        defer { end() }
        let device = try own("press-17"), service = try own("service")
        let server = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        let client = try TLSContext.endToEndClient(chain: service.0, key: service.1)
        let cache = TLSSessionCache(), asked = Mutex<[[[UInt8]]]>([]), isListed = Mutex(true)
        let admits: @Sendable ([[UInt8]]) -> Bool = { chain in
            asked.withLock { $0.append(chain) }
            return isListed.withLock { $0 }
        }
        let names = (server: "iotstream/a", client: "iotstream/a")
        func opens() throws -> Seen.State {
            let (_, here) = try meet(server, client, names: names, cache: cache, admits: admits)
            return here.wait { !$0.bytes.isEmpty || $0.reason != nil }
        }
        #expect(try opens().bytes == [7])
        #expect(try opens().isResumed)
        isListed.withLock { $0 = false }
        let (there, _) = try meet(server, client, names: names, cache: cache, admits: admits)
        #expect(there.wait { $0.reason != nil }.isOpen == false)
        #expect(there.wait { $0.reason != nil }.isResumed == false)
        // Once for the ticket, and once for the handshake that was made instead.
        #expect(asked.withLock { $0.suffix(2) } == [[service.0.leaf.der], [service.0.leaf.der]])
        isListed.withLock { $0 = true }
        #expect(try opens().bytes == [7])
    }

    @Test func `A ticket is good for the context that gave it, and for as long as the server has room`() throws {
        defer { end() }
        let device = try own("press-17"), service = try own("service"), other = try own("other")
        let server = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        let client = try TLSContext.endToEndClient(chain: service.0, key: service.1)
        let stranger = try TLSContext.endToEndClient(chain: other.0, key: other.1)
        let cache = TLSSessionCache(), names = (server: "iotstream/a", client: "iotstream/a")
        func opens(at server: TLSContext, _ client: TLSContext, _ cache: TLSSessionCache) throws -> Seen.State {
            let (there, here) = try meet(server, client, names: names, cache: cache)
            let mine = here.wait { !$0.bytes.isEmpty || $0.reason != nil }
            #expect(mine.bytes == [7])
            #expect(there.wait { !$0.bytes.isEmpty || $0.reason != nil }.isResumed == mine.isResumed)
            return mine
        }
        #expect(try !opens(at: server, client, cache).isResumed)
        #expect(try opens(at: server, client, cache).isResumed)
        let remade = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        #expect(try !opens(at: remade, client, cache).isResumed)
        #expect(try opens(at: remade, client, cache).isResumed)
        for _ in 0..<130 { _ = try opens(at: remade, stranger, TLSSessionCache()) }
        #expect(try !opens(at: remade, client, cache).isResumed)
        #expect(try opens(at: remade, client, cache).isResumed)
    }

    @Test func `A session for another stream does not come to be`() throws {
        defer { end() }
        let device = try own("press-17"), service = try own("service")
        let server = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        let client = try TLSContext.endToEndClient(chain: service.0, key: service.1)
        for names in [("iotstream/a", "iotstream/b"), ("iotstream/a", "iotstream/"), ("iotstream/a", "iotstream/aa")] {
            let (there, here) = try meet(server, client, names: names, cache: TLSSessionCache())
            #expect(here.wait { $0.reason != nil }.reason == .failed(.tls(.alert("no application protocol"))))
            #expect(there.wait { $0.reason != nil }.isOpen == false)
        }
    }

    @Test func `A client that names no stream is refused`() throws {
        defer { end() }
        let device = try own("press-17")
        let server = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        let (one, two) = try pair()
        let there = Seen(), here = Seen()
        let accepting = try Transport(accepting: OwnedDescriptor(adopting: one), endToEnd: server, protocolName: "iotstream/a")
        let connecting = try Transport(connecting: OwnedDescriptor(adopting: two), try folder.client(), host: "press-17")
        self.here.mailbox.adopt(Channel(accepting)) { channel, _ in Witness(channel, there) }
        self.here.mailbox.adopt(Channel(connecting)) { channel, _ in Witness(channel, here) }
        #expect(there.wait { $0.reason != nil }.isOpen == false)
        #expect(here.wait { $0.reason != nil }.isOpen == false)
    }

    /// Whatever the version: both leave, and what they say from then on passes as it is.
    @Test(arguments: [false, true]) func `A socket that has left TLS carries bytes as they are`(isOld: Bool) throws {
        defer { end() }
        let (one, two) = try pair()
        let server = try folder.server(), client = try folder.client(newest: isOld ? 0x0303 : 0x0304)
        let near = Leaver.Place(), far = Leaver.Place()
        here.mailbox.adopt(Channel(try Transport(accepting: OwnedDescriptor(adopting: one), server))) { channel, _ in Leaver(channel, near)
        }
        here.mailbox.adopt(Channel(try Transport(connecting: OwnedDescriptor(adopting: two), client, host: "hub.example"))) { channel, _ in
            Leaver(channel, far)
        }
        let left = try near.socket(), right = try far.socket()
        var byte: UInt8 = 0
        for (from, to) in [(left.raw, right.raw), (right.raw, left.raw)] {
            #expect(recv(to, &byte, 1, 0) == -1 && errno == EAGAIN)
            #expect(send(from, [42], 1, 0) == 1)
            #expect(recv(to, &byte, 1, 0) == 1 && byte == 42)
        }
    }

    @Test func `Data where the peer had to leave TLS fails the connection`() throws {
        defer { end() }
        let (one, two) = try pair()
        let server = try folder.server(), client = try folder.client()
        let near = Leaver.Place(), far = Leaver.Place()
        here.mailbox.adopt(Channel(try Transport(accepting: OwnedDescriptor(adopting: one), server))) { channel, _ in Leaver(channel, near)
        }
        here.mailbox.adopt(Channel(try Transport(connecting: OwnedDescriptor(adopting: two), client, host: "hub.example"))) { channel, _ in
            Leaver(channel, far, saying: "one word more")
        }
        let end = Clock.milliseconds + 10_000
        while near.reason.withLock({ $0 }) == nil, Clock.milliseconds < end { usleep(500) }
        guard case .failed(.tls) = near.reason.withLock({ $0 }) else {
            Issue.record("\(String(describing: near.reason.withLock { $0 }))")
            return
        }
        #expect(near.raw.withLock { $0 } == nil)
    }
}
