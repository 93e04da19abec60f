import Console
import Glibc
import TLS

/// A directory of certificates and keys, in the tool's own layout or in that of IoT Edge's test scripts.
///
///     root.ca.cert.pem  root.ca.key.pem
///     NAME.cert.pem  NAME.key.pem  NAME.full-chain.cert.pem     (leaf, then the intermediates; the root is not in it)
struct CertificateDirectory {
    let path: String
    let layout: Layout

    /// The directory of this name; its layout is what is found there.
    init(path: String) { (self.path, layout) = Layout.find(path) }

    /// A directory that may not be there yet.
    init(path: String, layout: Layout) {
        self.path = layout == .edge ? Layout.parent(ofCertificates: path) ?? path : path
        self.layout = layout
    }

    /// An authority that was found: the files' name without its ending, and the certificate.
    struct Found {
        let name: String
        let certificate: Certificate
    }

    func certificatePath(_ name: String) -> String { join(layout.certificate(name)) }
    func keyPath(_ name: String) -> String { join(layout.key(name)) }
    func fullChainPath(_ name: String) -> String { join(layout.chain(name)) }
    func requestPath(_ name: String) -> String { join(layout.request(name)) }
    func join(_ file: String) -> String { path == "." ? file : path == "/" ? "/\(file)" : "\(path)/\(file)" }

    /// Makes the directory (0700), those above it that are missing, and those that belong inside.
    /// - Returns: whether this directory was made.
    func create() throws(Failure) -> Bool {
        let made = try Self.create(path)
        for folder in layout.folders { _ = try Self.create(join(folder)) }
        return made
    }

    private static func create(_ path: String) throws(Failure) -> Bool {
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
        try authorities().filter { !layout.isGateway($0.name) && !$0.certificate.isSelfSigned }
    }

    /// Every CA of the directory, by name. Files that hold no certificate are passed over: they are not this tool's.
    func authorities() throws(Failure) -> [Found] {
        var found: [Found] = []
        for file in try certificateFiles() where !file.hasSuffix(layout.chainEnding) {
            let name = String(file.dropLast(".cert.pem".count))
            guard let chain = try? CertificateChain(path: certificatePath(name)), chain.leaf.isCA else { continue }
            found.append(Found(name: name, certificate: chain.leaf))
        }
        return found.sorted { $0.name < $1.name }
    }

    /// Every chain file, by its name inside the directory.
    func fullChains() throws(Failure) -> [(name: String, chain: CertificateChain)] {
        var found: [(String, CertificateChain)] = []
        for file in try certificateFiles() where file.hasSuffix(layout.chainEnding) {
            let name = layout.chain(String(file.dropLast(layout.chainEnding.utf8.count)))
            if let chain = try? CertificateChain(path: join(name)) { found.append((name, chain)) }
        }
        return found
    }

    private func certificateFiles() throws(Failure) -> [String] {
        guard let stream = opendir(layout == .edge ? join("certs") : path) else { throw missing(errno) }
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

    /// The authority whose files have this name; `root` is short for the root's.
    func authority(_ wanted: String) throws(Failure) -> (name: String, authority: CertificateAuthority) {
        guard !wanted.isEmpty, !wanted.contains("/"), wanted != ".", wanted != ".." else {
            throw .usage("--ca \(wanted): not a name", "give the name of a CA in \(path), without .cert.pem")
        }
        for name in layout.candidates(wanted) where access(certificatePath(name), F_OK) == 0 { return (name, try load(name)) }
        if wanted == "root" { throw missing(ENOENT) }
        let others = try authorities().map(\.name)
        throw .noInput(
            "no CA \(wanted) in \(path)",
            others.isEmpty ? "make one with iotstream cert gen-root" : "there are \(others.joined(separator: ", "))")
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
        return try authority(usable.first?.name ?? "root")
    }

    /// The certificates above `certificate` that are in the directory. The self-signed root is not among them in the tool's own layout,
    /// as nobody needs it sent; in that of the scripts it ends every chain.
    func intermediates(above certificate: Certificate) throws(Failure) -> [Certificate] {
        var way: [Certificate] = []
        var current = certificate
        var known: [Found]?
        while !current.isSelfSigned, way.count < 16 {
            if let root = try? CertificateChain(path: certificatePath(layout.root)).leaf, current.isIssued(by: root) {
                return layout == .edge ? way + [root] : way
            }
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
