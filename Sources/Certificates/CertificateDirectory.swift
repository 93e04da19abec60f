import Console
import Glibc
import TLS

/// A directory of certificates and keys in the tool's layout.
///
///     root.ca.cert.pem  root.ca.key.pem
///     NAME.cert.pem  NAME.key.pem  NAME.full-chain.cert.pem     (leaf, then the intermediates; the root is not in it)
struct CertificateDirectory {
    static let root = "root.ca"
    let path: String

    /// An authority that was found: the files' name without its ending, and the certificate.
    struct Found {
        let name: String
        let certificate: Certificate
    }

    func certificatePath(_ name: String) -> String { join("\(name).cert.pem") }
    func keyPath(_ name: String) -> String { join("\(name).key.pem") }
    func fullChainPath(_ name: String) -> String { join("\(name).full-chain.cert.pem") }
    private func join(_ file: String) -> String { path == "." ? file : "\(path)/\(file)" }

    /// Makes the directory (0700) and those above it that are missing.
    /// - Returns: whether this directory was made.
    func create() throws(Failure) -> Bool {
        var made = false
        var prefix = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            prefix += (prefix.isEmpty || prefix.hasSuffix("/") ? "" : "/") + part
            made = mkdir(prefix, 0o700) == 0
            guard made || errno == EEXIST || errno == EISDIR else {
                let code = errno
                if code == ENOENT || code == ENOTDIR {
                    throw .cannotCreate("\(prefix): \(Failure.describe(errno: code))", "name another --dir")
                }
                throw .errno(code, prefix, "name another directory with --dir")
            }
        }
        var info = stat()
        guard stat(path, &info) == 0 else { throw .errno(errno, path) }
        guard info.st_mode & S_IFMT == S_IFDIR else { throw .cannotCreate("\(path): not a directory", "name another --dir") }
        return made
    }

    /// Every CA of the directory that is neither the root nor an edge CA, by name, with or without its key.
    func intermediates() throws(Failure) -> [Found] {
        try authorities().filter { !$0.name.hasSuffix(".ca") && !$0.certificate.isSelfSigned }
    }

    /// Every CA of the directory, by name. Files that hold no certificate are passed over: they are not this tool's.
    func authorities() throws(Failure) -> [Found] {
        var found: [Found] = []
        for file in try certificateFiles() where !file.hasSuffix(".full-chain.cert.pem") {
            let name = String(file.dropLast(".cert.pem".count))
            guard let chain = try? CertificateChain(path: certificatePath(name)), chain.leaf.isCA else { continue }
            found.append(Found(name: name, certificate: chain.leaf))
        }
        return found.sorted { $0.name < $1.name }
    }

    /// Every chain file of the directory.
    func fullChains() throws(Failure) -> [(name: String, chain: CertificateChain)] {
        var found: [(String, CertificateChain)] = []
        for file in try certificateFiles() where file.hasSuffix(".full-chain.cert.pem") {
            if let chain = try? CertificateChain(path: join(file)) { found.append((file, chain)) }
        }
        return found
    }

    private func certificateFiles() throws(Failure) -> [String] {
        guard let stream = opendir(path) else { throw missing(errno) }
        defer { closedir(stream) }
        var found: [String] = []
        while let entry = readdir(stream) {
            let file = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if file.hasSuffix(".cert.pem"), !file.hasPrefix(".") { found.append(file) }
        }
        return found
    }

    /// The authority whose files have this name; `root` is short for `root.ca`.
    func authority(_ wanted: String) throws(Failure) -> (name: String, authority: CertificateAuthority) {
        let name = wanted == "root" ? Self.root : wanted
        guard !name.isEmpty, !name.contains("/"), name != ".", name != ".." else {
            throw .usage("--ca \(wanted): not a name", "give the name of a CA in \(path), without .cert.pem")
        }
        guard access(certificatePath(name), F_OK) == 0 else {
            if name == Self.root { throw missing(errno) }
            let encoded = FileName.safe(name)
            if encoded != name, access(certificatePath(encoded), F_OK) == 0 { return (encoded, try load(encoded)) }
            let others = try authorities().map(\.name)
            throw .noInput(
                "no CA \(wanted) in \(path)",
                others.isEmpty ? "make one with iotstream cert gen-root" : "there are \(others.joined(separator: ", "))")
        }
        return (name, try load(name))
    }

    /// The certificate and the key with this name, ready to issue.
    func load(_ name: String) throws(Failure) -> CertificateAuthority {
        let certificate = try readChain(certificatePath(name)).leaf
        let file = keyPath(name)
        guard access(file, F_OK) == 0 || errno != ENOENT else {
            throw .noInput("\(file) is missing: \(name) cannot issue without its key", "bring the key back, or choose another CA with --ca")
        }
        var pem = try SecretFile.key(file)
        defer { CredentialFile.wipe(&pem) }
        let key = try about(file) { () throws(CertificateError) in try PrivateKey(pem: pem) }
        return try about(certificatePath(name)) { () throws(CertificateError) in
            try CertificateAuthority(certificate: certificate, key: key)
        }
    }

    /// The issuer when nobody named one: the only intermediate that has its key (and may issue a CA, if one is wanted), else the root.
    func defaultAuthority(forCA: Bool) throws(Failure) -> (name: String, authority: CertificateAuthority) {
        let usable = try intermediates().filter { each in
            access(keyPath(each.name), F_OK) == 0 && !(forCA && each.certificate.pathLength == 0)
        }
        guard usable.count < 2 else {
            throw .usage("several intermediates in \(path)", "choose one with --ca: \(usable.map(\.name).joined(separator: ", "))")
        }
        return try authority(usable.first?.name ?? Self.root)
    }

    /// The certificates above `certificate` that are in the directory, the self-signed root not among them.
    func intermediates(above certificate: Certificate) throws(Failure) -> [Certificate] {
        var way: [Certificate] = []
        var current = certificate
        var known: [Found]?
        while !current.isSelfSigned, way.count < 16 {
            if let root = try? CertificateChain(path: certificatePath(Self.root)).leaf, current.isIssued(by: root) { break }
            let all: [Found]
            if let known { all = known } else { all = try authorities() }
            known = all
            guard let next = all.first(where: { current.isIssued(by: $0.certificate) })?.certificate, !next.isSelfSigned else { break }
            way.append(next)
            current = next
        }
        return way
    }

    private func missing(_ code: CInt) -> Failure {
        guard code == ENOENT || code == ENOTDIR else { return .errno(code, path) }
        return .noInput(
            "no root certificate in \(path)", "make one with iotstream cert gen-root --dir \(path), or name the directory with --dir")
    }
}
