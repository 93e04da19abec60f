import Glibc
import TLS
import Testing

/// What a server of end-to-end sessions says before its client has finished the handshake.
@Suite struct WritingAheadTests {
    private let folder: CertificateFolder
    private let server, client: TLSContext
    private let cache = TLSSessionCache()
    private let here, there: CInt

    init() throws {
        folder = try CertificateFolder()
        let root = folder.root, now = folder.now
        func own(_ name: String) throws -> (CertificateChain, PrivateKey) {
            let key = try PrivateKey(generating: .p256)
            let certificate = try root.issue(.client, commonName: name, for: key, seconds: 86_400, now: now)
            return (CertificateChain(leaf: certificate, others: []), key)
        }
        let device = try own("press-17"), service = try own("service")
        server = try TLSContext.endToEndServer(chain: device.0, key: device.1)
        client = try TLSContext.endToEndClient(chain: service.0, key: service.1)
        var ends: [CInt] = [0, 0]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0, &ends) == 0)
        (here, there) = (ends[0], ends[1])
    }

    /// The service's end, its first flight sent.
    private func begin() throws -> TLSSession {
        var session = try TLSSession(connectingEndToEnd: client, peer: "press-17", protocolName: "iotstream/a", cache: cache)
        let flight = session.firstFlight
        #expect(send(here, flight, flight.count, 0) == flight.count)
        try session.connect(to: here)
        return session
    }

    private func accept(_ admits: (@Sendable ([[UInt8]]) -> Bool)? = nil) throws -> TLSSession {
        try TLSSession(acceptingOn: there, endToEnd: server, protocolName: "iotstream/a", admits: admits)
    }

    private func write(_ text: String, to session: borrowing TLSSession) throws -> TLSProgress {
        try Array(text.utf8).withUnsafeBytes { try session.write($0) }
    }

    private func read(_ session: borrowing TLSSession) throws -> (TLSProgress, String) {
        var room = [UInt8](repeating: 0, count: 100)
        let progress = try room.withUnsafeMutableBytes { try session.read(into: $0) }
        guard case .done(let count) = progress else { return (progress, "") }
        return (progress, String(decoding: room[..<count], as: UTF8.self))
    }

    /// A whole session, which leaves the client a ticket.
    private func meet(_ admits: (@Sendable ([[UInt8]]) -> Bool)? = nil) throws {
        let near = try begin(), far = try accept(admits)
        #expect(try far.handshake() == .blocked(onWrite: false), "a client that does not resume is waited for")
        #expect(try near.handshake() == .done(0))
        #expect(try far.handshake() == .done(0) && !far.isResumed)
        #expect(try write("x", to: far) == .done(1))
        #expect(try read(near).1 == "x")
        #expect(cache.count == 1)
    }

    private func finish() {
        close(here)
        close(there)
    }

    @Test func whoResumesIsNotWaitedFor() throws {
        defer { finish() }
        try meet()
        let near = try begin(), far = try accept()
        #expect(try far.handshake() == .done(0) && far.isResumed)
        #expect(far.peerChain.count == 1)
        #expect(try write("ahead", to: far) == .done(5))
        #expect(try far.sayGoodbye() == .blocked(onWrite: true), "an end before the handshake's would be none")
        #expect(try read(far).0 == .blocked(onWrite: false))
        #expect(try near.handshake() == .done(0) && near.isResumed)
        #expect(try read(near).1 == "ahead")
        #expect(try write("question", to: near) == .done(8))
        #expect(try read(far).1 == "question")
        #expect(try write("answer", to: far) == .done(6))
        #expect(try far.sayGoodbye() == .done(0))
        #expect(try read(near).1 == "answer")
        #expect(try read(near).0 == .closed)
        #expect(cache.count >= 1, "and there is a ticket for the next time")
    }

    @Test func anEndBehindWhatWentAheadComesWithTheFinishedOfTheOther() throws {
        defer { finish() }
        try meet()
        let near = try begin(), far = try accept()
        #expect(try far.handshake() == .done(0))
        #expect(try write("all", to: far) == .done(3))
        #expect(try near.handshake() == .done(0))
        #expect(try far.sayGoodbye() == .done(0))
        #expect(try read(near).1 == "all")
        #expect(try read(near).0 == .closed)
    }

    @Test func whereNotEverybodyIsLetInNothingGoesAhead() throws {
        defer { finish() }
        try meet { _ in true }
        let near = try begin(), far = try accept { _ in true }
        #expect(try far.handshake() == .blocked(onWrite: false))
        #expect(try near.handshake() == .done(0) && near.isResumed)
        #expect(try far.handshake() == .done(0) && far.isResumed)
    }
}
