import CLinux
import COpenSSL
import Glibc
import LinuxIO
import Testing

@testable import TLS

@Suite struct CipherTests {
    struct Case: Sendable {
        let server, client: Bool  // whether they have instructions for AES
        let newest: CInt
        let chosen: String
    }

    static let cases = [
        Case(server: true, client: true, newest: TLS1_3_VERSION, chosen: "TLS_AES_128_GCM_SHA256"),
        Case(server: false, client: true, newest: TLS1_3_VERSION, chosen: "TLS_CHACHA20_POLY1305_SHA256"),
        Case(server: true, client: false, newest: TLS1_3_VERSION, chosen: "TLS_CHACHA20_POLY1305_SHA256"),
        Case(server: false, client: false, newest: TLS1_3_VERSION, chosen: "TLS_CHACHA20_POLY1305_SHA256"),
        Case(server: true, client: true, newest: TLS1_2_VERSION, chosen: "ECDHE-ECDSA-AES256-GCM-SHA384"),
        Case(server: false, client: true, newest: TLS1_2_VERSION, chosen: "ECDHE-ECDSA-CHACHA20-POLY1305"),
        Case(server: true, client: false, newest: TLS1_2_VERSION, chosen: "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ]

    @Test(arguments: cases) func theEndWithoutInstructionsForAESDecides(_ now: Case) throws {
        let folder = try CertificateFolder()
        let server = try folder.server(), client = try folder.client(newest: now.newest)
        try server.use(TLSCiphers(hasAES: now.server))
        try client.use(TLSCiphers(hasAES: now.client))
        #expect(try cipher(server, client) == now.chosen)
    }

    @Test func aContextHasWhatSuitsTheProcessor() throws {
        let folder = try CertificateFolder()
        let expected = clx_has_aes() == 1 ? "TLS_AES_128_GCM_SHA256" : "TLS_CHACHA20_POLY1305_SHA256"
        #expect(try cipher(folder.server(), folder.client()) == expected)
    }

    /// What a server and a client agree on.
    private func cipher(_ server: TLSContext, _ client: TLSContext) throws -> String {
        var ends: [CInt] = [0, 0]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(O_NONBLOCK), 0, &ends) == 0)
        let near = OwnedDescriptor(adopting: ends[0]), far = OwnedDescriptor(adopting: ends[1])
        let one = try #require(SSL_new(server.raw)), other = try #require(SSL_new(client.raw))
        defer {
            SSL_free(one)
            SSL_free(other)
        }
        SSL_set_fd(one, near.raw)
        SSL_set_fd(other, far.raw)
        SSL_set_accept_state(one)
        SSL_set_connect_state(other)
        for _ in 0..<10 where SSL_is_init_finished(one) == 0 || SSL_is_init_finished(other) == 0 {
            SSL_do_handshake(other)
            SSL_do_handshake(one)
        }
        return String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(one)))
    }
}
