import Glibc
import LinuxIO
import Synchronization
import TLS
import Wire

/// The services that an agent lets in, in a file that people edit. Read again whenever it, or a file that it names, has changed.
///
/// A file that is missing, that others may write to or that has one line which cannot be understood lets nobody in: half a list could
/// be half of what was meant.
package final class AuthorizedServices: Sendable {
    /// What the list says of who came.
    package enum Verdict: Equatable, Sendable {
        /// Who it is: the line's comment or the certificate's common name, else the fingerprint.
        case permitted(name: String)
        /// One line without secrets.
        case refused(reason: String)
    }

    package let path: String
    private let isOptional: Bool
    private let complain: @Sendable (String) -> Void
    private let state = Mutex(State())

    private struct State: Sendable {
        /// The files that were read, and as what.
        var stamps: [String: FileStamp?] = [:]
        var list: Result<[Rule], TrustError>?
        /// The file has been there.
        var hasBeen = false
    }

    private enum Rule: Sendable {
        case key(Fingerprint, comment: String)
        case authority(path: String, anchors: [Certificate], commonName: String?)
    }

    /// - Parameters:
    ///   - isOptional: whether everybody may come in for as long as there has never been such a file.
    ///   - complain: gets one line when the file lets nobody in, each time it has been read anew.
    package init(path: String, isOptional: Bool = false, complain: @escaping @Sendable (String) -> Void = { _ in }) {
        self.path = path
        self.isOptional = isOptional
        self.complain = complain
    }

    /// Whether there is a list. One that is optional counts from the moment at which it is there; if it goes again, nobody comes in.
    package var isInForce: Bool {
        guard isOptional else { return true }
        return state.withLock { state in
            // Whatever hides the file from us could hide a list.
            if !state.hasBeen { state.hasBeen = !Files.isMissing(path) }
            return state.hasBeen
        }
    }

    /// Reads the file if it has changed; throws what is wrong with it.
    package func check() throws(TrustError) { _ = try rules() }

    /// Who came, or why it may not come in.
    ///
    /// - Parameters:
    ///   - chain: DER, leaf first, of a handshake in which the service proved that it has the leaf's key.
    ///   - now: unix seconds.
    package func verdict(_ chain: [[UInt8]], now: Int64 = Clock.unixSeconds) -> Verdict {
        do throws(TrustError) {
            let rules = try rules()
            guard let leaf = chain.first else { return .refused(reason: "the service showed no key") }
            let shown: Fingerprint
            do throws(CertificateError) { shown = try Fingerprint(certificateDER: leaf) } catch {
                return .refused(reason: "the service's certificate: \(error)")
            }
            var certificates: [Certificate] = []
            var reasons: [String] = []
            for rule in rules {
                switch rule {
                case .key(shown, let comment): return .permitted(name: comment.isEmpty ? shown.description : comment)
                case .key: continue
                case .authority(let file, let anchors, let wanted):
                    if certificates.isEmpty { certificates = try DevicePolicy.certificates(chain) }
                    do throws(TrustError) {
                        let leaf = try DeviceAuthority.verify(certificates, anchors: anchors, path: file, now: now)
                        if let wanted, leaf.commonName?.isSame(as: wanted) != true { continue }
                        return .permitted(name: leaf.commonName?.printable ?? shown.description)
                    } catch {
                        // Only for a certificate that was made for this authority is it interesting what is wrong with it.
                        if certificates.contains(where: { each in anchors.contains { each.issuer == $0.subject } }) {
                            reasons.append(error.what)
                        }
                    }
                }
            }
            let why = reasons.first.map { " (\($0))" } ?? ""
            return .refused(reason: "the service's key \(shown) is not in \(path)\(why)")
        } catch {
            return .refused(reason: error.kind == .untrusted ? error.what : "nobody is let in: \(error.what)")
        }
    }

    private func rules() throws(TrustError) -> [Rule] {
        let (list, isNew) = state.withLock { state in
            let isFresh = !state.stamps.isEmpty && state.stamps.allSatisfy { Files.stamp($0.key) == $0.value }
            if isFresh, let list = state.list { return (list, false) }
            let list = load(&state.stamps)
            state.list = list
            return (list, true)
        }
        if isNew, case .failure(let error) = list { complain("\(error.what): nobody is let in") }
        return try list.get()
    }

    private func load(_ stamps: inout [String: FileStamp?]) -> Result<[Rule], TrustError> {
        // A file that changes while it is read has another stamp at the next look.
        stamps = [path: Files.stamp(path)]
        do throws(TrustError) { return .success(try read(&stamps)) } catch { return .failure(error) }
    }

    private func read(_ stamps: inout [String: FileStamp?]) throws(TrustError) -> [Rule] {
        guard let stamp = stamps[path] ?? nil else { throw TrustError(SystemError("open", ENOENT), path) }
        if stamp.mode & UInt32(S_IFMT) == UInt32(S_IFREG), stamp.mode & 0o022 != 0 {
            throw TrustError(.openToOthers, "\(path): others may write to it", "run chmod go-w \(path)")
        }
        let lines: [String]
        do throws(SystemError) { lines = try LineFile(path: path).lines() ?? [] } catch { throw TrustError(error, path) }
        var rules: [Rule] = []
        for (index, text) in lines.enumerated() {
            let line: AuthorizedLine?
            do throws(AuthorizedLine.Malformed) { line = try AuthorizedLine(parsing: text) } catch {
                throw TrustError(.malformed, "\(path):\(index + 1): \(error.reason)")
            }
            switch line {
            case nil: continue
            case .key(let fingerprint, let comment)?: rules.append(.key(fingerprint, comment: comment))
            case .authority(let name, let commonName)?:
                let file = name.hasPrefix("/") ? name : folder + name
                stamps[file] = .some(Files.stamp(file))
                do throws(CertificateError) {
                    let anchors = try CertificateChain(path: file).certificates
                    rules.append(.authority(path: file, anchors: anchors, commonName: commonName))
                } catch {
                    throw TrustError(.malformed, "\(path):\(index + 1): \(OwnIdentity.explain(error, file).what)")
                }
            }
        }
        return rules
    }

    /// A certificate's file is looked for beside the list.
    private var folder: String { path.lastIndex(of: "/").map { String(path[...$0]) } ?? "" }
}

extension Files {
    /// Whether there is surely nothing of that name.
    static func isMissing(_ path: String) -> Bool { access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR) }
}
