import Console
import Glibc
import TLS

/// Giving a certificate a new validity: same key, same names, same issuer, written beside and renamed into its place.
struct Renewal {
    /// The certificate's file; a symbolic link is followed.
    var path: String
    /// Where the issuer is; nil: beside the certificate.
    var issuers: CertificateDirectory?
    /// nil: as long as the old one.
    var days: Int?
    /// Unix seconds.
    var now: Int64

    func run() throws(Failure) -> CertificateReport {
        guard !path.hasSuffix(".full-chain.cert.pem") else {
            throw .usage("\(path): a chain", "name the .cert.pem file beside it; the chain follows by itself")
        }
        let chain = try readChain(path)
        guard path != "-", let resolved = realpath(path, nil) else { throw .errno(path == "-" ? EINVAL : errno, path, "name a file") }
        defer { free(resolved) }
        let file = String(cString: resolved)
        let directory = CertificateDirectory(path: file.lastIndex(of: "/").map { $0 == file.startIndex ? "/" : String(file[..<$0]) } ?? ".")
        let name = file.split(separator: "/").last.map(String.init) ?? file
        let base = name.hasSuffix(".cert.pem") ? String(name.dropLast(".cert.pem".count)) : nil
        let old = chain.leaf
        let certificate = try renew(old, base: base, directory: directory)
        var files = [try self.file(name, in: directory, CertificateChain(leaf: certificate, others: chain.others))]
        var report = CertificateReport(certificate: certificate, path: path)
        if let base, access(directory.fullChainPath(base), F_OK) == 0 {
            let above = try (issuers ?? directory).intermediates(above: certificate)
            files.append(try self.file("\(base).full-chain.cert.pem", in: directory, CertificateChain(leaf: certificate, others: above)))
            report.fullChainPath =
                path.hasSuffix(name) ? String(path.dropLast(name.count)) + "\(base).full-chain.cert.pem" : directory.fullChainPath(base)
        }
        if certificate.isCA {
            let own = base.map { "\($0).full-chain.cert.pem" }
            let below = try directory.fullChains().filter { $0.name != own && $0.chain.certificates.contains { $0.isSame(as: old) } }
            for each in below {
                let changed = each.chain.certificates.map { $0.isSame(as: old) ? certificate : $0 }
                files.append(try self.file(each.name, in: directory, CertificateChain(leaf: changed[0], others: changed.dropFirst())))
            }
            tellWhatFollows(old, chains: below.count)
        }
        try FileSet(consume files, in: directory.path, replacing: true).write()
        return report
    }

    private func tellWhatFollows(_ old: Certificate, chains: Int) {
        let until = CertificateTime.text(old.notAfter)
        if old.isSelfSigned {
            Output.tell("iotstream cert: what it issued stays valid; give the new root to those who trust the old one before \(until)")
        } else if chains > 0 {
            Output.tell("iotstream cert: put the new certificate into \(chains) chain files: hand those out before \(until)")
        }
    }

    private func renew(_ old: Certificate, base: String?, directory: CertificateDirectory) throws(Failure) -> Certificate {
        let seconds = days.map { Int64($0) * 86400 } ?? max(86400, old.notAfter - old.notBefore - 300)
        if old.isSelfSigned {
            guard let base else { throw .usage("\(path): its key is unknown", "name the files NAME.cert.pem and NAME.key.pem") }
            let file = directory.keyPath(base)
            var pem = try SecretFile.key(file)
            defer { CredentialFile.wipe(&pem) }
            return try about(file) { () throws(CertificateError) in
                try old.renewedBySelf(key: PrivateKey(pem: pem), seconds: seconds, now: now)
            }
        }
        let place = issuers ?? directory
        guard let found = try place.authorities().first(where: { old.isIssued(by: $0.certificate) }) else {
            throw .noInput("\(path): its issuer \(old.issuer) is not in \(place.path)", "name the issuer's directory with --dir")
        }
        let authority = try place.load(found.name)
        let made = try about(path) { () throws(CertificateError) in try authority.renew(old, seconds: seconds, now: now) }
        if let days, made.notAfter < now + Int64(days) * 86400 {
            Output.tell("iotstream cert: ends with its issuer on \(CertificateTime.text(made.notAfter)), before \(days) days are over")
        }
        return made
    }

    /// A file that takes the place of one, with its permissions and its owner.
    private func file(_ name: String, in directory: CertificateDirectory, _ chain: CertificateChain) throws(Failure) -> NewFile {
        let path = "\(directory.path)/\(name)"
        var info = stat()
        guard stat(path, &info) == 0 else { throw .errno(errno, path) }
        return NewFile(
            name: name, contents: Array(chain.pem.utf8), mode: info.st_mode & 0o777, owner: (info.st_uid, info.st_gid))
    }
}
