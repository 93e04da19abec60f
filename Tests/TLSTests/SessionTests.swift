import COpenSSL
import Glibc
import LinuxIO
import Testing

@testable import TLS

/// A hub's and a device's certificates in files, as contexts want them.
private struct Papers {
    let directory: String
    let ca, serverChain, serverKey, otherCA, clientChain, clientKey: String
    let clientDER: [[UInt8]]

    init() throws {
        let now = Clock.unixSeconds
        let directory = "/tmp/iotstream-tls-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        self.directory = directory
        try Files.makeDirectory(directory)
        func write(_ name: String, _ text: String) throws -> String {
            let path = "\(directory)/\(name)"
            try Files.create(path, with: Array(text.utf8), mode: 0o600)
            return path
        }
        func root(_ name: String) throws -> CertificateAuthority {
            let key = try PrivateKey(generating: .p256)
            return try CertificateAuthority(certificate: .root(commonName: name, key: key, seconds: 86_400, now: now), key: key)
        }
        let house = try root("Root"), stranger = try root("Stranger")
        ca = try write("ca.pem", house.certificate.pem)
        otherCA = try write("other.pem", stranger.certificate.pem)
        let key = try PrivateKey(generating: .p256)
        let names = [try AlternativeName("hub.test"), try AlternativeName("127.0.0.1")]
        let leaf = try house.issue(.server(names: names), commonName: "hub.test", for: key, seconds: 3600, now: now)
        serverChain = try write("server.pem", leaf.pem)
        serverKey = try write("server.key", String(decoding: try key.pem(), as: UTF8.self))
        let middleKey = try PrivateKey(generating: .p256)
        let middle = try CertificateAuthority(
            certificate: house.issue(.intermediate(pathLength: 0), commonName: "Middle", for: middleKey, seconds: 3600, now: now),
            key: middleKey)
        let deviceKey = try PrivateKey(generating: .p256)
        let device = try middle.issue(.client, commonName: "dev1", for: deviceKey, seconds: 3600, now: now)
        clientChain = try write("device.pem", device.pem + middle.certificate.pem)
        clientKey = try write("device.key", String(decoding: try deviceKey.pem(), as: UTF8.self))
        clientDER = [device.der, middle.certificate.der]
    }

    func remove() {
        for name in (try? Files.names(in: directory)) ?? [] { Files.remove("\(directory)/\(name)") }
        rmdir(directory)
    }
}

/// Two ends on one thread.
private struct Pair: ~Copyable {
    let near, far: OwnedDescriptor

    init() throws {
        var ends: [CInt] = [0, 0]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(O_NONBLOCK), 0, &ends) == 0)
        near = OwnedDescriptor(adopting: ends[0])
        far = OwnedDescriptor(adopting: ends[1])
    }
}

/// What both ends say after a handshake: the server's word has come, its ticket with it.
private struct Outcome: Equatable {
    var serverError: TLSError?
    var clientError: TLSError?
    var chain: [[UInt8]] = []
    var isResumed = false
    var version = ""
}

@Suite(.serialized) struct SessionTests {
    private func meet(_ server: TLSContext, _ client: TLSContext, host: String = "hub.test", cache: TLSSessionCache? = nil) throws
        -> Outcome
    {
        let pair = try Pair()
        let one = try TLSSession(acceptingOn: pair.near.raw, server)
        let two = try TLSSession(connectingOn: pair.far.raw, client, host: host, cache: cache)
        var outcome = Outcome(), isServerDone = false, isClientDone = false
        for _ in 0..<50 where !(isServerDone && isClientDone) {
            do throws(TLSError) {
                if !isClientDone, case .done = try two.handshake() { isClientDone = true }
            } catch {
                outcome.clientError = error
                isClientDone = true
            }
            do throws(TLSError) {
                if !isServerDone, case .done = try one.handshake() { isServerDone = true }
            } catch {
                outcome.serverError = error
                isServerDone = true
            }
        }
        guard outcome.clientError == nil, outcome.serverError == nil else { return outcome }
        outcome.chain = one.peerChain
        outcome.isResumed = one.isResumed
        outcome.version = one.version
        let word = Array("word".utf8)
        let written = try word.withUnsafeBytes { try one.write($0) }
        #expect(written == .done(4))
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
        defer { room.deallocate() }
        #expect(try two.read(into: room) == .done(4))
        return outcome
    }

    private func withFiles(_ body: (Papers) throws -> Void) throws {
        let files = try Papers()
        defer { files.remove() }
        try body(files)
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION]) func aResumedSessionStillKnowsTheWholeChain(_ version: CInt) throws {
        try withFiles { files in
            let server = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: TLSTicketKeys())
            let identity = (try CertificateChain(path: files.clientChain), try PrivateKey(path: files.clientKey))
            let client = try TLSContext.client(authorityPath: files.ca, identity: identity)
            _ = cssl_ctx_set_max_version(client.raw, version)
            let cache = TLSSessionCache()
            let first = try meet(server, client, cache: cache)
            #expect(first.chain == files.clientDER && !first.isResumed)
            let second = try meet(server, client, cache: cache)
            #expect(second.chain == files.clientDER && second.isResumed)
            #expect(second.version == (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"))
        }
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION]) func withoutACertificateSessionsResumeToo(_ version: CInt) throws {
        try withFiles { files in
            let tickets = TLSTicketKeys()
            let server = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: tickets)
            let client = try TLSContext.client(authorityPath: files.ca)
            _ = cssl_ctx_set_max_version(client.raw, version)
            let cache = TLSSessionCache()
            #expect(try meet(server, client, cache: cache).isResumed == false)
            // Another context of the same process, as after a reload, takes the ticket; another process does not.
            let reloaded = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: tickets)
            let second = try meet(reloaded, client, cache: cache)
            #expect(second.isResumed && second.chain.isEmpty)
            let restarted = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: TLSTicketKeys())
            #expect(try meet(restarted, client, cache: cache).isResumed == false)
        }
    }

    @Test func aCertificateForAnotherHostIsRefusedInWords() throws {
        try withFiles { files in
            let server = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: TLSTicketKeys())
            let client = try TLSContext.client(authorityPath: files.ca)
            #expect(try meet(server, client, host: "127.0.0.1").clientError == nil)
            for host in ["other.test", "127.0.0.2", "::1"] {
                let error = try #require(try meet(server, client, host: host).clientError)
                #expect(error.description.contains("mismatch"), "\(error)")
            }
        }
    }

    @Test func anUnknownAuthorityIsRefusedInWords() throws {
        try withFiles { files in
            let server = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: TLSTicketKeys())
            let client = try TLSContext.client(authorityPath: files.otherCA)
            let error = try #require(try meet(server, client).clientError)
            guard case .certificateRefused = error else { throw error }
        }
    }

    @Test func garbageAndEarlyEndsAreErrorsNotTraps() throws {
        try withFiles { files in
            let server = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: TLSTicketKeys())
            for text in ["GET / HTTP/1.1\r\nHost: hub\r\n\r\n", String(repeating: "\u{16}\u{3}\u{1}\u{2}", count: 40), ""] {
                let pair = try Pair()
                let session = try TLSSession(acceptingOn: pair.near.raw, server)
                _ = text.withCString { send(pair.far.raw, $0, text.utf8.count, CInt(MSG_NOSIGNAL)) }
                shutdown(pair.far.raw, CInt(SHUT_WR))
                #expect(throws: TLSError.self) {
                    for _ in 0..<4 { _ = try session.handshake() }
                }
            }
        }
    }

    @Test func aCutIsNotAGoodbye() throws {
        try withFiles { files in
            let server = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.serverKey, tickets: TLSTicketKeys())
            let client = try TLSContext.client(authorityPath: files.ca)
            for says in [true, false] {
                let pair = try Pair()
                let one = try TLSSession(acceptingOn: pair.near.raw, server)
                let two = try TLSSession(connectingOn: pair.far.raw, client, host: "hub.test")
                for _ in 0..<6 {
                    _ = try two.handshake()
                    _ = try one.handshake()
                }
                if says { _ = try two.sayGoodbye() }
                shutdown(pair.far.raw, CInt(SHUT_WR))
                let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
                defer { room.deallocate() }
                if says {
                    #expect(try one.read(into: room) == .closed)
                } else {
                    #expect(throws: TLSError.truncated) { try one.read(into: room) }
                }
            }
        }
    }

    @Test func filesThatDoNotFitAreNamed() throws {
        try withFiles { files in
            let tickets = TLSTicketKeys()
            #expect(throws: TLSError.self) {
                try TLSContext.server(certificatePath: "/nowhere/cert.pem", keyPath: files.serverKey, tickets: tickets)
            }
            do {
                _ = try TLSContext.server(certificatePath: files.serverChain, keyPath: files.clientKey, tickets: tickets)
                Issue.record("a foreign key was taken")
            } catch {
                #expect("\(error)".contains(files.clientKey))
            }
        }
    }
}
