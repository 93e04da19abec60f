import Glibc
import LinuxIO
import TLS
import Wire

/// What a service asks of the device at the other end of an end-to-end session before a byte goes there.
package enum DevicePolicy: Sendable {
    /// The key that was written down at the first stream.
    case pin(KnownDevices)
    /// A certificate of its own from one of these.
    case authority(DeviceAuthority)

    /// How a device was found to be the right one.
    package enum Admission: Equatable, Sendable {
        /// It has shown the key that was written down, or the certificate that it has to have.
        case known
        /// It was a stranger; its key is written down now.
        case remembered(Fingerprint)
        /// It was a stranger and will be one again: why its key could not be written down.
        case unwritten(Fingerprint, reason: String)
    }

    /// Judges what the device has shown, and writes the key of a stranger down.
    ///
    /// - Parameters:
    ///   - hub: the hub's host, and its port where it is not 443.
    ///   - chain: DER, leaf first, of a handshake in which the device proved that it has the leaf's key.
    ///   - now: unix seconds.
    /// Throws the reason to end the session at once.
    package func admit(hub: HostPort, device: ClientIdentity, chain: [[UInt8]], now: Int64) throws(TrustError) -> Admission {
        switch self {
        case .authority(let authority):
            try authority.check(try Self.certificates(chain), device: device, now: now)
            return .known
        case .pin(let known):
            guard let leaf = chain.first else { throw TrustError(.untrusted, "the device showed no key") }
            let shown: Fingerprint
            do throws(CertificateError) { shown = try Fingerprint(certificateDER: leaf) } catch {
                throw TrustError(.untrusted, "the device's certificate: \(error)")
            }
            switch try known.verdict(hub: hub, device: device, fingerprint: shown) {
            case .known: return .known
            case .changed(let line, let old): throw Self.changed(device, shown, old, known.path, line)
            case .new:
                do throws(TrustError) {
                    if try known.remember(hub: hub, device: device, fingerprint: shown) { return .remembered(shown) }
                } catch {
                    return .unwritten(shown, reason: error.what)
                }
                guard case .changed(let line, let old) = try known.verdict(hub: hub, device: device, fingerprint: shown) else {
                    return .known
                }
                throw Self.changed(device, shown, old, known.path, line)
            }
        }
    }

    /// Whether a stream to this device has to be an end-to-end one: its key is known, or a certificate is asked for. A plain stream then
    /// means that somebody has talked the ends down.
    package func insists(hub: HostPort, device: ClientIdentity) throws(TrustError) -> Bool {
        switch self {
        case .authority: true
        case .pin(let known): try !known.pins(hub: hub, device: device).isEmpty
        }
    }

    /// The line for a plain stream where `insists` says true.
    package func downgraded(_ device: ClientIdentity) -> TrustError {
        let reason =
            switch self {
            case .authority(let authority): "\(authority.path) is to vouch for it"
            case .pin(let known): "its key is in \(known.path)"
            }
        return TrustError(
            .untrusted, "the stream would not be encrypted as far as the device, but \(reason)",
            "the hub or the agent is too old, or the hub's owner wants to listen")
    }

    private static func changed(
        _ device: ClientIdentity, _ shown: Fingerprint, _ old: Fingerprint, _ path: String, _ line: Int
    ) -> TrustError {
        let words = device.moduleID.map { "--module \($0) \(device.deviceID)" } ?? device.deviceID
        let place = line > 0 ? "\(path):\(line)" : "this process"
        let remedy =
            line > 0
            ? "compare with iotstream agent --fingerprint on the device, and only if that agrees remove line \(line) of \(path) "
                + "(iotstream known-devices remove \(words))"
            : "compare with iotstream agent --fingerprint on the device, and only if that agrees start again"
        return TrustError(
            .untrusted,
            "THE KEY OF \(device) HAS CHANGED: somebody may be listening, or the device has a new key: it shows \(shown), "
                + "and \(place) has \(old)", remedy)
    }

    /// What a peer has shown, read. Throws `untrusted` for anything that is no certificate.
    static func certificates(_ chain: [[UInt8]]) throws(TrustError) -> [Certificate] {
        var certificates: [Certificate] = []
        for der in chain {
            do throws(CertificateError) { certificates.append(try Certificate(der: der)) } catch {
                throw TrustError(.untrusted, "a certificate of the other end is damaged")
            }
        }
        return certificates
    }
}
