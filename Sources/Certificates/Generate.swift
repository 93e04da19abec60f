import Console
import Glibc
import TLS
import Wire

/// Making certificates: what the person asked for, without the command line.
struct Generation {
    enum Kind {
        case root(name: String)
        case intermediate(name: String, pathLength: Int)
        case edge(name: String)
        case server(names: [String])
        /// A device, or `{deviceId}/{moduleId}`.
        case device(id: String)
        case verification(code: String)
    }

    var kind: Kind
    var directory: CertificateDirectory
    /// The issuer's name; nil: the only intermediate, else the root.
    var issuer: String?
    var days: Int
    var algorithm: KeyAlgorithm
    var force: Bool
    /// Somebody else's key; nil: a new one is made.
    var request: CertificateRequest?
    /// Unix seconds.
    var now: Int64

    /// Makes the key and the certificate and writes the files.
    func run() throws(Failure) -> CertificateReport {
        if case .root(let name) = kind { return try makeRoot(name) }
        let plan = try makePlan()
        let issuer = try findIssuer(isCA: plan.role.isCA)
        try refuseExisting(plan.file, isCA: plan.role.isCA)
        let subject = plan.commonName ?? plan.file, seconds = Int64(days) * 86400
        var files: [NewFile] = []
        let certificate: Certificate
        if let request {
            certificate = try about(subject) { () throws(CertificateError) in
                try issuer.authority.issue(plan.role, commonName: plan.commonName, for: request, seconds: seconds, now: now)
            }
        } else {
            let key = try about(subject) { () throws(CertificateError) in try PrivateKey(generating: algorithm) }
            certificate = try about(subject) { () throws(CertificateError) in
                try issuer.authority.issue(plan.role, commonName: plan.commonName, for: key, seconds: seconds, now: now)
            }
            if plan.keepsKey {
                files.append(.key(directory.layout.key(plan.file), try about(subject) { () throws(CertificateError) in try key.pem() }))
            }
        }
        if certificate.notAfter < now + seconds {
            Output.tell(
                "iotstream cert: ends with its issuer on \(CertificateTime.text(certificate.notAfter)), before \(days) days are over")
        }
        var report = CertificateReport(certificate: certificate, path: directory.certificatePath(plan.file))
        if !files.isEmpty { report.keyPath = directory.keyPath(plan.file) }
        files.append(.certificate(directory.layout.certificate(plan.file), certificate.pem))
        if plan.keepsKey || request != nil {
            let chain = CertificateChain(leaf: certificate, others: try directory.intermediates(above: certificate))
            files.append(.certificate(directory.layout.chain(plan.file), chain.pem))
            report.fullChainPath = directory.fullChainPath(plan.file)
        }
        try FileSet(consume files, in: directory.path, replacing: force).write()
        return report
    }

    /// Makes a key, or takes that of a file, and asks for a certificate with it: the `.csr.pem` goes to somebody who has a CA.
    /// - Parameter keyPath: an existing key; nil: one is made beside the request.
    func ask(keyPath: String?) throws(Failure) -> (request: CertificateRequest, path: String, keyPath: String) {
        let plan = try makePlan(), subject = plan.commonName ?? plan.file
        var names: [AlternativeName] = []
        if case .server(let all) = plan.role { names = all }
        let taken = [directory.requestPath(plan.file)] + (keyPath == nil ? [directory.keyPath(plan.file)] : [])
        for path in taken where !force && access(path, F_OK) == 0 {
            throw .cannotCreate("\(path) is already there", "give --force to replace it, or another --dir")
        }
        var files: [NewFile] = []
        let key: PrivateKey
        if let keyPath {
            var pem = try SecretFile.key(keyPath)
            defer { CredentialFile.wipe(&pem) }
            key = try about(keyPath) { () throws(CertificateError) in try PrivateKey(pem: pem) }
        } else {
            key = try about(subject) { () throws(CertificateError) in try PrivateKey(generating: algorithm) }
            files.append(.key(directory.layout.key(plan.file), try about(subject) { () throws(CertificateError) in try key.pem() }))
        }
        let request = try about(subject) { () throws(CertificateError) in
            try CertificateRequest(commonName: plan.commonName, names: names, key: key)
        }
        files.append(.certificate(directory.layout.request(plan.file), request.pem))
        _ = try directory.create()
        try FileSet(consume files, in: directory.path, replacing: force).write()
        return (request, directory.requestPath(plan.file), keyPath ?? directory.keyPath(plan.file))
    }

    private struct Plan {
        var file: String
        var commonName: String?
        var role: CertificateRole
        var keepsKey = true
    }

    private func makePlan() throws(Failure) -> Plan {
        switch kind {
        case .root: throw .software("a root has no issuer")
        case .intermediate(let name, let pathLength):
            guard name != "root" else { throw .usage("root is the name of the root", "choose another name") }
            return Plan(file: try fileName(name), commonName: name, role: .intermediate(pathLength: pathLength))
        case .edge(let name):
            // The name differs from the gateway's host name, or verifiers see a self-signed loop (edge-gateway 3).
            return Plan(file: try fileName(name), commonName: name + ".ca", role: .intermediate(pathLength: 0))
        case .server(let texts):
            var names: [AlternativeName] = []
            for text in texts {
                let name = try parseName(text)
                if !names.contains(name) { names.append(name) }
            }
            guard let first = names.first?.description else { throw .usage("HOSTNAME is missing") }
            let commonName = first.utf8.count <= 64 ? first : nil
            return Plan(file: try fileName(first), commonName: commonName, role: .server(names: names))
        case .device(let id):
            guard ClientIdentity(clientID: id) != nil else {
                throw .usage("'\(id)': not a device id", "use 1 to 128 of A-Z a-z 0-9 - . + % _ # * ? ! ( ) , : = @ $ '")
            }
            guard id.utf8.count <= 64 else {
                throw .usage("device id of \(id.utf8.count) characters: a certificate's name holds 64", "choose a shorter id, or a SAS key")
            }
            return Plan(file: directory.layout.name(of: kind, FileName.safe(id)), commonName: id, role: .client)
        case .verification(let code):
            return Plan(file: try fileName(code), commonName: code, role: .client, keepsKey: false)
        }
    }

    private func parseName(_ text: String) throws(Failure) -> AlternativeName {
        do throws(CertificateError) { return try AlternativeName(text) } catch {
            throw .usage("\(error)", "give host names or IP addresses")
        }
    }

    /// Checks what only a file name can be wrong about.
    private func fileName(_ name: String) throws(Failure) -> String {
        guard !name.isEmpty, !name.utf8.contains(UInt8(ascii: "/")), !name.utf8.contains(0) else {
            throw .usage("'\(name)': not a name that a file can have", "use letters, digits and - . _")
        }
        guard name.unicodeScalars.count <= 64 || name.utf8.count <= 253 else {
            throw .usage("the name is too long", "use at most 64 characters")
        }
        return directory.layout.name(of: kind, FileName.safe(name))
    }

    private func findIssuer(isCA: Bool) throws(Failure) -> (name: String, authority: CertificateAuthority) {
        if let issuer { return try directory.authority(issuer) }
        switch kind {
        case .intermediate, .verification: return try directory.authority("root")
        default: return try directory.defaultAuthority(forCA: isCA)
        }
    }

    private func makeRoot(_ name: String) throws(Failure) -> CertificateReport {
        let file = directory.layout.root
        try refuseExisting(file, isCA: true)
        let key = try about(name) { () throws(CertificateError) in try PrivateKey(generating: algorithm) }
        let certificate = try about(name) { () throws(CertificateError) in
            try Certificate.root(commonName: name, key: key, seconds: Int64(days) * 86400, now: now)
        }
        let pem = try about(name) { () throws(CertificateError) in try key.pem() }
        let made = try directory.create()
        do throws(Failure) {
            let files: [NewFile] = [
                .key(directory.layout.key(file), pem), .certificate(directory.layout.certificate(file), certificate.pem),
            ]
            try FileSet(consume files, in: directory.path, replacing: force).write()
        } catch {
            if made { rmdir(directory.path) }
            throw error
        }
        var report = CertificateReport(certificate: certificate, path: directory.certificatePath(file))
        report.keyPath = directory.keyPath(file)
        return report
    }

    /// Says so before a key is made for nothing; the file system has the last word. A CA never gives way to a leaf.
    private func refuseExisting(_ file: String, isCA: Bool) throws(Failure) {
        var paths = [directory.certificatePath(file), directory.fullChainPath(file)]
        if request == nil { paths.append(directory.keyPath(file)) }
        for path in paths {
            var info = stat()
            guard lstat(path, &info) == 0 else { continue }
            guard force else { throw .cannotCreate("\(path) is already there", "give --force to replace it, or another --dir") }
            guard info.st_mode & S_IFMT != S_IFDIR else { throw .cannotCreate("\(path) is a directory", "move it away") }
            if !isCA, let old = try? CertificateChain(path: path).leaf, old.isCA {
                throw .cannotCreate("\(path) is a CA, which --force does not replace by a leaf", "choose another name or --dir")
            }
        }
    }
}
