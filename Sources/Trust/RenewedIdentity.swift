import Glibc
import LinuxIO
import Synchronization
import TLS

/// An identity that lasts: a key of its own, or a certificate and its key in two files that somebody may renew at any time.
///
/// The files are looked at whenever somebody asks who we are. The pair changes whole or not at all: while a file is half written, the two
/// do not belong together or others may read the key, the old pair stays, and somebody is told once why.
package final class RenewedIdentity: Sendable {
    private struct State {
        var identity: OwnIdentity
        var generation = 0
        var stamps: [FileStamp?]
    }

    /// Certificate and key; empty for an identity that never changes.
    private let paths: [String]
    private let complain: @Sendable (String) -> Void
    private let state: Mutex<State>

    /// An identity that stays as it is.
    package init(_ identity: OwnIdentity) {
        paths = []
        complain = { _ in }
        state = Mutex(State(identity: identity, stamps: []))
    }

    /// A certificate that somebody issued, leaf first, and its key: PEM.
    /// Throws as `OwnIdentity` does: either cannot be read, they do not belong together, or others may read the key.
    /// - Parameter complain: told, in one line, why new files are of no use, and what is odd about a certificate's dates.
    package init(certificatePath: String, keyPath: String, complain: @escaping @Sendable (String) -> Void) throws(TrustError) {
        paths = [certificatePath, keyPath]
        let stamps = Self.stamps(paths)
        let identity = try OwnIdentity(certificatePath: certificatePath, keyPath: keyPath)
        self.complain = complain
        state = Mutex(State(identity: identity, stamps: stamps))
        if let fault = identity.datesFault(at: Clock.unixSeconds) { complain("\(certificatePath): \(fault)") }
    }

    /// Who we are now; another generation is another pair.
    package var current: (identity: OwnIdentity, generation: Int) {
        guard !paths.isEmpty else { return state.withLock { ($0.identity, $0.generation) } }
        let stamps = Self.stamps(paths)
        return state.withLock { state in
            guard stamps != state.stamps else { return (state.identity, state.generation) }
            state.stamps = stamps
            do throws(TrustError) {
                let fresh = try OwnIdentity(certificatePath: paths[0], keyPath: paths[1])
                state.identity = fresh
                state.generation += 1
                if let fault = fresh.datesFault(at: Clock.unixSeconds) { complain("\(paths[0]): \(fault)") }
            } catch {
                complain("\(error): the certificate of before stays in use")
            }
            return (state.identity, state.generation)
        }
    }

    private static func stamps(_ paths: [String]) -> [FileStamp?] { paths.map { Files.stamp($0) } }
}

extension OwnIdentity {
    /// Why nobody will take the certificate at `now` (unix seconds), in words; nil when its dates are good.
    package func datesFault(at now: Int64) -> String? {
        let leaf = chain.leaf
        if now > leaf.notAfter { return "the certificate expired on \(CertificateTime.text(leaf.notAfter)): renew it" }
        if now < leaf.notBefore {
            return "the certificate is not valid before \(CertificateTime.text(leaf.notBefore)): is this machine's clock right?"
        }
        return nil
    }
}
