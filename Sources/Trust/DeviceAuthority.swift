import LinuxIO
import TLS
import Wire

/// Roots, or intermediates, that issue devices' certificates: `--device-ca FILE`.
package struct DeviceAuthority: Sendable {
    package let path: String
    private let anchors: [Certificate]

    /// Reads PEM or DER with at least one certificate.
    package init(path: String) throws(TrustError) {
        self.path = path
        do throws(CertificateError) { anchors = try CertificateChain(path: path).certificates } catch {
            throw OwnIdentity.explain(error, path)
        }
    }

    /// Checks that the chain leads to one of the roots, that it is valid at `now` (unix seconds) and that its leaf is the device's: CN =
    /// `{deviceId}` or `{deviceId}/{moduleId}`, with case, as the hub wants it of devices with a CA (attestation section 5). What else
    /// the certificate is meant for does not matter.
    package func check(_ chain: [Certificate], device: ClientIdentity, now: Int64) throws(TrustError) {
        let leaf = try Self.verify(chain, anchors: anchors, path: path, now: now)
        guard leaf.commonName?.isSame(as: device.clientID) == true else {
            let name = leaf.commonName.map { "\($0.printable)'s" } ?? "without a name"
            throw TrustError(
                .untrusted, "the device's certificate is \(name), not \(device)'s", "the hub may have joined you with another device")
        }
    }

    /// The leaf, once there is a way from it to one of `anchors`.
    static func verify(_ chain: [Certificate], anchors: [Certificate], path: String, now: Int64) throws(TrustError) -> Certificate {
        guard let leaf = chain.first else { throw TrustError(.untrusted, "it showed no certificate") }
        do throws(ChainFailure) {
            _ = try CertificateChain(leaf: leaf, others: chain.dropFirst()).verify(anchors: anchors, purpose: .any, time: now)
            return leaf
        } catch {
            throw TrustError(.untrusted, "its certificate does not lead to one in \(path): \(error)")
        }
    }
}
