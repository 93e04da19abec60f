import CLinux

/// The ciphers of a context, best first. AES-128-GCM is the fastest where the processor has instructions for AES; where it has none,
/// ChaCha20-Poly1305 is several times as fast.
struct TLSCiphers: Equatable {
    /// Of TLS 1.3.
    let suites: String
    /// Of TLS 1.2, as attestation section 6 has them; the CBC ones are for constrained devices and come last.
    let list: String

    /// - Parameter hasAES: whether the processor has instructions for AES-GCM.
    init(hasAES: Bool) {
        let fast = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", plain = "TLS_CHACHA20_POLY1305_SHA256"
        suites = hasAES ? "\(fast):\(plain)" : "\(plain):\(fast)"
        list =
            (hasAES ? "ECDHE+AESGCM:ECDHE+CHACHA20" : "ECDHE+CHACHA20:ECDHE+AESGCM")
            + ":ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384"
    }

    /// What suits this processor.
    static let here = TLSCiphers(hasAES: clx_has_aes() == 1)
}
