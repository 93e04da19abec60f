import Glibc
import LinuxIO
import TLS

/// Who this end of a stream is: what it shows to the other end, and proves in the handshake.
package struct OwnIdentity: Sendable {
    /// Leaf first.
    package let chain: CertificateChain
    package let key: PrivateKey
    /// Of the leaf's key.
    package let fingerprint: Fingerprint

    private init(_ chain: CertificateChain, _ key: PrivateKey, _ path: String) throws(TrustError) {
        self.chain = chain
        self.key = key
        do throws(CertificateError) { fingerprint = try Fingerprint(of: chain.leaf) } catch {
            throw TrustError(.malformed, "\(path): \(error)")
        }
    }

    /// A certificate that somebody issued, leaf first, and its key: PEM.
    /// Throws when either cannot be read, they do not belong together, or others may read the key.
    package init(certificatePath: String, keyPath: String) throws(TrustError) {
        let chain: CertificateChain
        do throws(CertificateError) { chain = try CertificateChain(path: certificatePath) } catch {
            throw Self.explain(error, certificatePath)
        }
        guard let key = try KeyFile(path: keyPath, remedy: "name the file of the certificate's private key").read() else {
            throw TrustError(.system(ENOENT), "\(keyPath): no such file")
        }
        guard key.matches(chain.leaf) else {
            throw TrustError(.malformed, "\(keyPath): the private key does not belong to the certificate in \(certificatePath)")
        }
        try self.init(chain, key, certificatePath)
    }

    /// The key of a file, which is made (P-256, 0600) with its directory (0700) when it is not there; of several processes that start at
    /// once one makes it. The certificate is made anew each time and stands for nothing but the key.
    /// - Parameter commonName: for people to read: the device's id.
    /// Throws when the file cannot be made, others may read it, or no key is in it. What is in it is never overwritten.
    package init(keyFile path: String, commonName: String) throws(TrustError) {
        try self.init(bearing: KeyFile(path: path).readOrMake(), commonName: commonName, path)
    }

    /// A key that ends with the process, for whoever has no place to keep one.
    package init(passingNamed commonName: String) throws(TrustError) {
        let key: PrivateKey
        do throws(CertificateError) { key = try PrivateKey(generating: .p256) } catch { throw TrustError(.system(EIO), "\(error)") }
        try self.init(bearing: key, commonName: commonName, "a new key")
    }

    private init(bearing key: PrivateKey, commonName: String, _ path: String) throws(TrustError) {
        let certificate: Certificate
        do throws(CertificateError) { certificate = try Certificate.bearer(of: key, commonName: commonName) } catch {
            throw TrustError(.malformed, "\(path): \(error)")
        }
        try self.init(CertificateChain(leaf: certificate, others: []), key, path)
    }

    static func explain(_ error: CertificateError, _ path: String) -> TrustError {
        if case .unreadable(let path, let code) = error { return TrustError(SystemError("open", code), path) }
        return TrustError(.malformed, "\(path): \(error)")
    }
}
