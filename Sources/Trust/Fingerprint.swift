import Synchronization
import TLS
import Wire

/// Names a public key: SHA-256 over its DER SubjectPublicKeyInfo. Prints as `SHA256:` and 43 characters of unpadded Base64.
package struct Fingerprint: Hashable, Sendable, CustomStringConvertible {
    /// 32 bytes.
    package let digest: [UInt8]
    private static let prefix = "SHA256:"

    /// Reads what `description` writes: that spelling and no other.
    package init?(_ text: some StringProtocol) {
        guard text.utf8.starts(with: Self.prefix.utf8), text.utf8.count == Self.prefix.utf8.count + 43,
            let digest = Base64.decode(String(decoding: text.utf8.dropFirst(Self.prefix.utf8.count), as: UTF8.self) + "="),
            digest.count == 32
        else { return nil }
        self.digest = digest
    }

    /// The key that the certificate carries.
    package init(of certificate: Certificate) throws(CertificateError) { digest = try certificate.publicKeySHA256() }

    /// The key's public half.
    package init(of key: PrivateKey) throws(CertificateError) { digest = try key.publicKeySHA256() }

    /// The key in one certificate as DER. Reading a certificate costs more than the rest of a look at a list, and the same few come again
    /// and again: the last ones are remembered.
    package init(certificateDER: [UInt8]) throws(CertificateError) {
        if let known = Self.seen.withLock({ $0[certificateDER] }) {
            self = known
            return
        }
        try self.init(of: Certificate(der: certificateDER))
        let found = self
        Self.seen.withLock { seen in
            if seen.count >= Self.seenLimit { seen.removeAll() }
            seen[certificateDER] = found
        }
    }

    private static let seen = Mutex<[[UInt8]: Fingerprint]>([:])
    private static let seenLimit = 128

    package var description: String { Self.prefix + Base64.encode(digest).prefix(43) }
}
