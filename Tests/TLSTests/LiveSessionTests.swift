import Bytes
import COpenSSL
import Connections
import Glibc
import LinuxIO
import Testing

@testable import TLS

@Suite(.serialized) struct LiveSessionTests {
    struct Case: Sendable {
        let newest: CInt
        let hasCertificate: Bool
        var version: String { newest == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2" }
    }

    static let cases = [TLS1_2_VERSION, TLS1_3_VERSION].flatMap { newest in
        [false, true].map { Case(newest: newest, hasCertificate: $0) }
    }

    @Test(arguments: cases) func theWholeChainIsKnownAlsoWhenASessionResumes(_ now: Case) throws {
        let folder = try CertificateFolder()
        let chain = try folder.issue(.client, "press-17").certificates.map(\.der)
        let site = try Site(folder.server())
        let context = try folder.client(as: now.hasCertificate ? "press-17" : nil, newest: now.newest)
        let cache = TLSSessionCache()
        for round in 0..<4 {
            let client = try site.open(context, cache: cache)
            let mine = client.seen.now, its = try site.server(round).wait { $0.isOpen }
            #expect(mine.isOpen && mine.version == now.version && its.version == now.version)
            #expect(mine.isResumed == (round > 0) && its.isResumed == (round > 0))
            #expect(its.chain == (now.hasCertificate ? chain : []))
            client.act { $0.finish(on: $1) }
            _ = client.seen.wait { $0.reason != nil }
        }
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION]) func aChainTooLongForATicketIsProvenAnew(_ newest: CInt) throws {
        let folder = try CertificateFolder()
        let chain = try folder.issue(.client, "long")
        let long = [chain.leaf] + Array(repeating: folder.middle.certificate, count: 30)  // about 13 kB
        try Files.replace("\(folder.path)/long.pem", with: Array(long.map(\.pem).joined().utf8), isDurable: false)
        let site = try Site(folder.server()), cache = TLSSessionCache(), context = try folder.client(as: "long", newest: newest)
        for round in 0..<2 {
            #expect(try !site.open(context, cache: cache).seen.now.isResumed)
            #expect(try site.server(round).wait { $0.isOpen }.chain.count == 31)
        }
    }

    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION]) func aRestartedServerMakesAFullHandshake(_ newest: CInt) throws {
        let folder = try CertificateFolder(), cache = TLSSessionCache(), context = try folder.client(newest: newest)
        _ = try Site(folder.server()).open(context, cache: cache)
        #expect(cache.count == 1)
        let seen = try Site(folder.server()).open(context, cache: cache).seen.now
        #expect(seen.isOpen && !seen.isResumed && seen.bytes == [7])
    }

    @Test func aReloadedCertificateKeepsTicketsGood() throws {
        let folder = try CertificateFolder(), cache = TLSSessionCache(), context = try folder.client(), keys = TLSTicketKeys()
        _ = try Site(folder.server(tickets: keys)).open(context, cache: cache)
        #expect(try Site(folder.server(tickets: keys)).open(context, cache: cache).seen.now.isResumed)
    }

    @Test func aTicketServesOnlyItsHostAndItsContext() throws {
        let folder = try CertificateFolder(), cache = TLSSessionCache(), context = try folder.client()
        let site = try Site(folder.server())
        _ = try site.open(context, cache: cache)
        let other = try site.open(context, host: "other.example", cache: cache).seen.now
        #expect(!other.isOpen)
        #expect(try !site.open(folder.client(), cache: cache).seen.now.isResumed)
        _ = try site.open(context, cache: cache)
        #expect(try site.open(context, cache: cache).seen.now.isResumed)
    }

    @Test func keysAreChangedAndTheOneBeforeOpensForAsLongAsItsTicketsLive() throws {
        let keys = TLSTicketKeys(rotationSeconds: 40_000)
        let start = Clock.milliseconds / 1000
        func isOpened(_ name: [UInt8], _ seconds: UInt64) -> Bool? {
            name.withUnsafeBytes { keys.opening($0, now: start + seconds)?.isOld }
        }
        let first = keys.sealing(now: start).name
        #expect(isOpened(first, 39_000) == false)
        #expect(keys.sealing(now: start + 40_001).name != first)
        #expect(isOpened(first, 40_100) == true)
        #expect(isOpened(first, 40_001 + 7199) == true)
        #expect(isOpened(first, 40_001 + 7201) == nil)
        #expect(isOpened(Array(repeating: 0, count: 16), 1) == nil)
    }

    @Test func whatATicketCarriesIsReadBackOrRefused() {
        func decode(_ data: [UInt8]) -> [[UInt8]]? { data.withUnsafeBytes { TLSTicketChain.decode($0)?.others } }
        let data = TLSTicketChain.encode([[1, 2, 3], [4]], provenAt: 1_800_000_000)
        #expect(decode(data) == [[1, 2, 3], [4]])
        #expect(data.withUnsafeBytes { TLSTicketChain.decode($0)?.provenAt } == 1_800_000_000)
        for count in 0..<data.count where count != 9 && count != 15 { #expect(decode(Array(data[..<count])) == nil, "\(count)") }
        #expect(decode(TLSTicketChain.encode([[UInt8](repeating: 0, count: 8190)], provenAt: 0)) == nil)
    }

    // Refusals

    private func refusal(_ folder: CertificateFolder, _ server: String, host: String, context: TLSContext? = nil) throws -> String {
        let client = try Site(folder.server(server)).connect(context ?? folder.client(), host: host)
        let seen = client.seen.wait { $0.reason != nil }
        withExtendedLifetime(client) {}
        guard case .failed(let error)? = seen.reason else { return "\(seen)" }
        return error.description
    }

    @Test func aServersCertificateIsRefusedInWords() throws {
        let folder = try CertificateFolder()
        let names: [AlternativeName] = [.dns("hub.example")]
        #expect(
            try refusal(folder, "hub.example", host: "other.example")
                == "certificate refused: hostname mismatch: not for other.example, its names are hub.example, 127.0.0.1")
        #expect(try refusal(folder, "hub.example", host: "::1").hasPrefix("certificate refused: hostname mismatch: not for ::1"))
        try folder.issue(.server(names: names), "old", startingInDays: -50)
        #expect(try refusal(folder, "old", host: "hub.example").hasPrefix("certificate refused: certificate has expired on 20"))
        try folder.issue(.server(names: names), "young", startingInDays: 5)
        #expect(try refusal(folder, "young", host: "hub.example").hasPrefix("certificate refused: certificate is not yet valid"))
        let stranger = try CertificateFolder()
        #expect(
            try refusal(folder, "hub.example", host: "hub.example", context: stranger.client())
                .hasPrefix("certificate refused: unknown authority"))
        try folder.issue(.client, "press-17")
        #expect(try refusal(folder, "press-17", host: "hub.example").hasPrefix("certificate refused: "))
    }

    @Test func anAddressIsAHostToo() throws {
        let folder = try CertificateFolder()
        #expect(try Site(folder.server()).open(folder.client(), host: "127.0.0.1").seen.now.isOpen)
    }

    @Test func filesThatDoNotFitAreRefusedInWords() throws {
        let folder = try CertificateFolder()
        try folder.issue(.server(names: [.dns("a")]), "a")
        try folder.issue(.server(names: [.dns("b")]), "b")
        let mismatch = TLSError.file(path: "\(folder.path)/b.key", reason: "does not belong to the certificate in \(folder.path)/a.pem")
        #expect(throws: mismatch) {
            try TLSContext.server(certificatePath: "\(folder.path)/a.pem", keyPath: "\(folder.path)/b.key", tickets: TLSTicketKeys())
        }
        #expect(throws: TLSError.file(path: "/nonexistent", reason: "no such file or directory")) {
            try TLSContext.client(authorityPath: "/nonexistent")
        }
    }

    @Test func theNameIsSentAndAServerWithoutTLSIsCalledThat() throws {
        let folder = try CertificateFolder()
        let site = try Site(nil)
        let client = try site.connect(folder.client(), host: "hub.example")
        let hello = try site.server().wait { $0.bytes.count > 100 }.bytes
        #expect(String(decoding: hello, as: UTF8.self).contains("hub.example"))
        site.answer("HTTP/1.1 400 Bad Request\r\n\r\n")
        guard case .failed(let error)? = client.seen.wait({ $0.reason != nil }).reason else {
            Issue.record("not failed")
            return
        }
        #expect(error.description == "peer does not speak TLS")
    }

    /// Sends raw bytes to a TLS server, ends, and returns what it then says of the connection.
    private func verdict(on bytes: String) throws -> String {
        let folder = try CertificateFolder()
        let site = try Site(folder.server())
        let socket = try site.socket()
        _ = send(socket.raw, bytes, bytes.utf8.count, CInt(MSG_NOSIGNAL))
        shutdown(socket.raw, CInt(SHUT_WR))
        guard case .failed(let error)? = try site.server().wait({ $0.reason != nil }).reason else { return "" }
        return error.description
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\r\n\r\n", "peer speaks HTTP without TLS"), ("SSH-2.0-OpenSSH_9.2p1\r\n", "peer does not speak TLS"),
        ("", "connection ended during the TLS handshake"), ("\u{16}\u{3}\u{1}", "connection ended during the TLS handshake"),
    ]) func firstBytesThatAreNotTLSAreCalledWhatTheyAre(_ bytes: String, _ words: String) throws {
        #expect(try verdict(on: bytes) == words)
    }

    // The life of a session

    @Test func bytesSurviveTinyWritesAndAMoveToAnotherReactor() throws {
        let folder = try CertificateFolder()
        let site = try Site(folder.server())
        let client = try site.connect(folder.client())
        var sent: [UInt8] = []
        while sent.count < 200_000 {
            let piece = (0..<(sent.count % 37 + 1)).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ sent.count % 53) | 0x80 }
            sent += piece
            client.send(piece)
            if sent.count == piece.count {
                sent.append(UInt8(ascii: ">"))
                client.send([UInt8(ascii: ">")])
            }
        }
        let expected = sent
        #expect(client.seen.wait { $0.bytes.count >= expected.count || $0.reason != nil }.bytes == expected)
    }

    @Test func aGoodbyeIsAnEndAndACutIsAFailure() throws {
        let folder = try CertificateFolder()
        let site = try Site(folder.server())
        let polite = try site.open(folder.client())
        polite.act { $0.finish(on: $1) }
        let end = try site.server(0).wait { $0.reason != nil }
        #expect(end.hasEnded && end.reason == .finished)
        let rude = try site.open(folder.client())
        shutdown(rude.raw, CInt(SHUT_WR))
        let cut = try site.server(1).wait { $0.reason != nil }
        #expect(!cut.hasEnded && cut.reason == .failed(.tls(.truncated)))
    }

    @Test func anEntryLeftInTheErrorQueueHarmsNobody() throws {
        let folder = try CertificateFolder()
        let site = try Site(folder.server())
        let client = try site.open(folder.client())
        client.act { connection, reactor in
            _ = X509_STORE_new().map { X509_STORE_load_file($0, "/nonexistent") }
            connection.send(([8] as [UInt8]).span.bytes, on: reactor)
        }
        #expect(client.seen.wait { $0.bytes.count == 2 || $0.reason != nil }.bytes == [7, 8])
        client.send([9])
        #expect(client.seen.wait { $0.bytes.count == 3 || $0.reason != nil }.bytes == [7, 8, 9])
    }
}
