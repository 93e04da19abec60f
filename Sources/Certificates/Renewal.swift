import Console
import Glibc
import TLS

/// Giving a certificate a new validity: same names, same issuer, the same key unless it is rolled; written beside and renamed into place.
struct Renewal {
    /// The certificate's file; a symbolic link is followed.
    var path: String
    /// Where the issuer is; nil: beside the certificate.
    var issuers: CertificateDirectory?
    /// nil: as long as the old one.
    var days: Int?
    /// The key gives way to a new one of the same kind.
    var rollsKey = false
    /// Unix seconds.
    var now: Int64

    func run() throws(Failure) -> CertificateReport {
        guard !path.hasSuffix(".full-chain.cert.pem"), !path.hasSuffix("-full-chain.cert.pem") else {
            throw .usage("\(path): a chain", "name the .cert.pem file beside it; the chain follows by itself")
        }
        let chain = try readChain(path)
        guard path != "-", let resolved = realpath(path, nil) else { throw .errno(path == "-" ? EINVAL : errno, path, "name a file") }
        defer { free(resolved) }
        let file = String(cString: resolved)
        let folder = file.lastIndex(of: "/").map { $0 == file.startIndex ? "/" : String(file[..<$0]) } ?? "."
        let directory = CertificateDirectory(path: folder), prefix = directory.layout == .edge ? "certs/" : ""
        let name = file.split(separator: "/").last.map(String.init) ?? file
        let base = name.hasSuffix(".cert.pem") ? String(name.dropLast(".cert.pem".count)) : nil
        let old = chain.leaf
        let key = rollsKey ? try rolled(old, base: base, directory) : nil
        let certificate = try renew(old, base: base, directory: directory, rollingTo: key)
        var files = [try self.file(prefix + name, in: directory, CertificateChain(leaf: certificate, others: chain.others).pem)]
        var report = CertificateReport(certificate: certificate, path: path)
        if let key, let base {
            var pem = try about(path) { () throws(CertificateError) in try key.pem() }
            defer { CredentialFile.wipe(&pem) }
            files.append(try self.file(directory.layout.key(base), in: directory, pem))
            let isBeside = directory.layout == .flat && path.hasSuffix(name)
            report.keyPath = isBeside ? String(path.dropLast(name.count)) + directory.layout.key(base) : directory.keyPath(base)
        }
        if let base, access(directory.fullChainPath(base), F_OK) == 0 {
            let above = try (issuers ?? directory).intermediates(above: certificate)
            files.append(
                try self.file(directory.layout.chain(base), in: directory, CertificateChain(leaf: certificate, others: above).pem))
            report.fullChainPath =
                path.hasSuffix(name)
                ? String(path.dropLast(name.count)) + base + directory.layout.chainEnding : directory.fullChainPath(base)
        }
        if certificate.isCA {
            let own = base.map { directory.layout.chain($0) }
            let below = try directory.fullChains().filter { $0.name != own && $0.chain.certificates.contains { $0.isSame(as: old) } }
            for each in below {
                let changed = each.chain.certificates.map { $0.isSame(as: old) ? certificate : $0 }
                files.append(
                    try self.file(each.name, in: directory, CertificateChain(leaf: changed[0], others: changed.dropFirst()).pem))
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

    /// A new key of the kind that the certificate has now; its file has to be there already, and is not looked into.
    private func rolled(_ old: Certificate, base: String?, _ directory: CertificateDirectory) throws(Failure) -> PrivateKey {
        guard !old.isCA else {
            throw .refused(
                "\(path): a CA with another key is another CA", "make it with gen-intermediate under another name, and have it issue anew")
        }
        guard let base, access(directory.keyPath(base), F_OK) == 0 else {
            throw .noInput("\(path): its key is unknown", "name the files NAME.cert.pem and NAME.key.pem")
        }
        guard let algorithm = KeyAlgorithm(of: old) else {
            throw .data("\(path): its \(old.publicKeyAlgorithm) key is not of a kind that is made here", "make a new certificate")
        }
        return try about(path) { () throws(CertificateError) in try PrivateKey(generating: algorithm) }
    }

    private func renew(
        _ old: Certificate, base: String?, directory: CertificateDirectory, rollingTo fresh: PrivateKey?
    ) throws(Failure) -> Certificate {
        let seconds = days.map { Int64($0) * 86400 } ?? max(86400, old.notAfter - old.notBefore - 300)
        if old.isSelfSigned {
            if let fresh {
                return try about(path) { () throws(CertificateError) in
                    try old.renewedBySelf(key: fresh, isRolled: true, seconds: seconds, now: now)
                }
            }
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
        let made = try about(path) { () throws(CertificateError) in
            try authority.renew(old, rollingTo: fresh, seconds: seconds, now: now)
        }
        if let days, made.notAfter < now + Int64(days) * 86400 {
            Output.tell("iotstream cert: ends with its issuer on \(CertificateTime.text(made.notAfter)), before \(days) days are over")
        }
        return made
    }

    /// A file that takes the place of one, with its permissions and its owner.
    private func file(_ name: String, in directory: CertificateDirectory, _ text: String) throws(Failure) -> NewFile {
        try file(name, in: directory, Array(text.utf8))
    }

    private func file(_ name: String, in directory: CertificateDirectory, _ contents: [UInt8]) throws(Failure) -> NewFile {
        let path = directory.join(name)
        var info = stat()
        guard stat(path, &info) == 0 else { throw .errno(errno, path) }
        return NewFile(name: name, contents: contents, mode: info.st_mode & 0o777, owner: (info.st_uid, info.st_gid))
    }
}
