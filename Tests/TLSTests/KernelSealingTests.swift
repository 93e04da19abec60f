import COpenSSL
import Glibc
import LinuxIO
import Testing

@testable import TLS

/// An end of a session over a socket pair, whose other end is the peer's.
private final class End {
    private let socket: OwnedDescriptor
    private var session: TLSSession
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)

    init(_ socket: consuming OwnedDescriptor, _ make: (CInt) throws -> TLSSession) throws {
        session = try make(socket.raw)
        self.socket = socket
    }

    deinit { room.deallocate() }

    func handshake() throws -> Bool { try session.handshake() == .done(0) }
    func carryBulk() throws { try session.carryBulk() }
    func write(_ bytes: [UInt8]) throws { #expect(try bytes.withUnsafeBytes { try session.write($0) } == .done(bytes.count)) }
    func writeMuch(_ bytes: [UInt8]) throws -> TLSProgress { try bytes.withUnsafeBytes { try session.write($0, gatheringIn: room) } }
    /// Puts bytes on the wire that are no doing of the session's.
    func smuggle(_ bytes: [UInt8]) { #expect(send(socket.raw, bytes, bytes.count, 0) == bytes.count) }
    var kernelKey: KernelKey? { session.ground?.kernel?.nextKey() }
    var hasGround: Bool { session.ground != nil }

    /// What there is to read.
    func read() throws -> [UInt8] {
        var got: [UInt8] = []
        while case .done(let count) = try session.read(into: room) { got += room[..<count] }
        return got
    }
}

private func pair(
    _ cipher: (old: String, new: String)? = nil, newest: CInt = TLS1_3_VERSION, kernelMaySeal: Bool = true
) throws -> (server: End, client: End) {
    let folder = try CertificateFolder()
    let hub = try folder.server(), device = try folder.client(newest: newest)
    if let cipher {
        try #require(SSL_CTX_set_cipher_list(device.raw, cipher.old) == 1 && SSL_CTX_set_ciphersuites(device.raw, cipher.new) == 1)
    }
    var ends: [CInt] = [0, 0]
    try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(O_NONBLOCK), 0, &ends) == 0)
    let server = try End(OwnedDescriptor(adopting: ends[0])) { try TLSSession(acceptingOn: $0, hub, kernelMaySeal: kernelMaySeal) }
    let client = try End(OwnedDescriptor(adopting: ends[1])) {
        try TLSSession(connectingOn: $0, device, host: "hub.example", kernelMaySeal: kernelMaySeal)
    }
    var isServerDone = false, isClientDone = false
    while !isServerDone || !isClientDone {
        if !isClientDone { isClientDone = try client.handshake() }
        if !isServerDone { isServerDone = try server.handshake() }
    }
    return (server, client)
}

/// Makes the record that the kernel would make (RFC 8446 section 5.2; RFC 5288 section 3 and RFC 7905 section 2 for TLS 1.2).
private func record(of text: [UInt8], by key: KernelKey) throws -> [UInt8] {
    let bytes = key.bytes, isNew = bytes[0] == 4, isChaCha = bytes[2] == 54
    let ivCount = isChaCha ? 12 : 8, keyCount = bytes[2] == 51 ? 16 : 32
    let number = Array(bytes.suffix(8)), iv = Array(bytes[4..<4 + ivCount]), secret = Array(bytes[4 + ivCount..<4 + ivCount + keyCount])
    let salt = Array(bytes[(4 + ivCount + keyCount)...].dropLast(8))
    var nonce = salt + iv
    if isNew || isChaCha { for index in 0..<8 { nonce[4 + index] ^= number[index] } }
    let plain = isNew ? text + [23] : text
    let explicit = isNew || isChaCha ? [] : iv, length = plain.count + 16 + explicit.count
    let header: [UInt8] = [23, 3, 3, UInt8(length >> 8), UInt8(length & 255)]
    let covered = isNew ? header : number + [23, 3, 3, UInt8(text.count >> 8), UInt8(text.count & 255)]

    let context = try #require(EVP_CIPHER_CTX_new())
    defer { EVP_CIPHER_CTX_free(context) }
    let cipher = isChaCha ? EVP_chacha20_poly1305() : keyCount == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm()
    var sealed = [UInt8](repeating: 0, count: plain.count), tag = [UInt8](repeating: 0, count: 16), count: CInt = 0
    try #require(EVP_EncryptInit_ex(context, cipher, nil, secret, nonce) == 1)
    try #require(EVP_EncryptUpdate(context, nil, &count, covered, CInt(covered.count)) == 1)
    try #require(EVP_EncryptUpdate(context, &sealed, &count, plain, CInt(plain.count)) == 1)
    try #require(EVP_EncryptFinal_ex(context, &tag, &count) == 1)
    try #require(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, &tag) == 1)
    return header + explicit + sealed + tag
}

@Suite struct KernelSealingTests {
    private static func info(version: UInt8, cipher: UInt8, count: Int) -> [UInt8] {
        [version, 3, cipher, 0] + [UInt8](repeating: 0xFF, count: count - 12) + [0, 0, 0, 0, 0, 0, 0, 0xFE]
    }

    @Test(arguments: [(51, 40), (52, 56), (54, 56)] as [(UInt8, Int)], [3, 4] as [UInt8])
    func aKeyCountsItsRecords(_ kind: (cipher: UInt8, count: Int), _ version: UInt8) throws {
        var raw = Self.info(version: version, cipher: kind.cipher, count: kind.count)
        raw.replaceSubrange(4..<12, with: [0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF])
        var key = try #require(raw.withUnsafeBytes { $0.baseAddress.flatMap { KernelKey($0) } })
        #expect(key.bytes == raw)
        key.advance(by: 3)
        #expect(key.bytes.suffix(8) == [0, 0, 0, 0, 0, 0, 1, 1])
        let counts = version == 3 && kind.cipher != 54
        #expect(key.bytes[4..<12] == (counts ? [0, 0, 0, 0, 1, 0, 0, 2] : [0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF]))
        #expect(key.bytes[12..<kind.count - 8] == raw[12..<kind.count - 8])
    }

    @Test(arguments: [(2, 51), (5, 51), (4, 53), (4, 0), (3, 255)] as [(UInt8, UInt8)])
    func otherKeysAreNotTaken(_ version: UInt8, _ cipher: UInt8) {
        let raw = Self.info(version: version, cipher: cipher, count: 56)
        #expect(raw.withUnsafeBytes { $0.baseAddress.flatMap { KernelKey($0) } } == nil)
    }

    private static let ciphers = [
        (old: "ECDHE-ECDSA-AES128-GCM-SHA256", new: "TLS_AES_128_GCM_SHA256"),
        (old: "ECDHE-ECDSA-AES256-GCM-SHA384", new: "TLS_AES_256_GCM_SHA384"),
        (old: "ECDHE-ECDSA-CHACHA20-POLY1305", new: "TLS_CHACHA20_POLY1305_SHA256"),
    ]

    @Test(arguments: 0..<3, [TLS1_2_VERSION, TLS1_3_VERSION])
    func thePeerReadsARecordMadeWithTheNextKey(_ index: Int, _ newest: CInt) throws {
        for writes in [0, 1, 300] {
            let (server, client) = try pair(Self.ciphers[index], newest: newest)
            for (from, to) in [(server, client), (client, server)] {
                for length in 0..<writes {
                    try from.write([UInt8](repeating: 7, count: length))
                    #expect(try to.read().count == length)
                }
                let key = try #require(from.kernelKey)
                from.smuggle(try record(of: Array("hello".utf8), by: key))
                #expect(try to.read().suffix(5) == Array("hello".utf8))
            }
        }
    }

    @Test func aSessionKeepsNoKeyUnlessTheKernelMaySeal() throws {
        let (server, client) = try pair(kernelMaySeal: false)
        for end in [server, client] {
            try end.carryBulk()
            #expect(!end.hasGround && end.kernelKey == nil)
        }
    }

    @Test func whereTheKernelCannotTheSessionGoesOn() throws {
        let (server, client) = try pair()
        try server.carryBulk()
        for length in [100, 40_000, 16385] {
            let text = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            #expect(try server.writeMuch(text) == .done(length))
            #expect(try client.read() == text)
        }
        #expect(server.kernelKey == nil)  // it was offered to a socket that is not TCP
    }
}
