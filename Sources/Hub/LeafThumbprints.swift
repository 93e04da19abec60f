import TLS

/// The fingerprints of a client's certificate that is valid now.
struct LeafThumbprints {
    let sha1, sha256: String

    /// Nil for bytes that are no certificate, and outside its dates.
    init?(der: [UInt8], now: Int64) {
        guard let leaf = try? Certificate(der: der), leaf.notBefore <= now, now <= leaf.notAfter else { return nil }
        sha1 = leaf.sha1Thumbprint
        sha256 = leaf.sha256Thumbprint
    }
}
