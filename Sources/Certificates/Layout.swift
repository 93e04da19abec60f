import LinuxIO

/// Where the files of one certificate are inside a directory, and what they are called.
enum Layout: String, CaseIterable {
    /// `NAME.cert.pem`, `NAME.key.pem` and so on, all in one place.
    case flat
    /// As the test scripts of IoT Edge have it (edge-gateway 13): `certs/`, `private/` and `csr/`, a prefix for each kind.
    case edge

    static let edgePrefix = "azure-iot-test-only."

    /// The directory that somebody meant, and its layout: `certs` of such scripts stands for the directory it is in.
    static func find(_ path: String) -> (path: String, layout: Layout) {
        let root = "\(edgePrefix)root.ca.cert.pem"
        if Files.exists("\(path)/certs/\(root)") { return (path, .edge) }
        if Files.exists("\(path)/\(root)"), let above = parent(ofCertificates: path) { return (above, .edge) }
        return (path, .flat)
    }

    /// The directory above one whose name is `certs`.
    static func parent(ofCertificates path: String) -> String? {
        if path == "certs" { return "." }
        guard path.hasSuffix("/certs") else { return nil }
        return path.utf8.count == 6 ? "/" : String(path.dropLast(6))
    }

    /// Directories inside it that have to be there.
    var folders: [String] { self == .flat ? [] : ["certs", "private", "csr"] }
    /// Name of the root's files.
    var root: String { self == .flat ? "root.ca" : "\(Self.edgePrefix)root.ca" }

    var chainEnding: String { self == .flat ? ".full-chain.cert.pem" : "-full-chain.cert.pem" }
    func certificate(_ name: String) -> String { self == .flat ? "\(name).cert.pem" : "certs/\(name).cert.pem" }
    func key(_ name: String) -> String { self == .flat ? "\(name).key.pem" : "private/\(name).key.pem" }
    func request(_ name: String) -> String { self == .flat ? "\(name).csr.pem" : "csr/\(name).csr.pem" }
    func chain(_ name: String) -> String { self == .flat ? "\(name)\(chainEnding)" : "certs/\(name)\(chainEnding)" }

    /// The name of the files of a certificate of this kind.
    func name(of kind: Generation.Kind, _ safe: String) -> String {
        switch (self, kind) {
        case (_, .root): root
        case (.flat, .edge): "\(safe).ca"
        case (.flat, _): safe
        case (.edge, .intermediate): safe == "intermediate" ? "\(Self.edgePrefix)intermediate" : safe
        case (.edge, .edge): "iot-edge-device-ca-\(safe)"
        case (.edge, .server): "iot-edge-server-\(safe)"
        case (.edge, .device): "iot-device-\(safe)"
        case (.edge, .verification): "iot-device-verification-code"
        }
    }

    /// What the files of a CA may be called that somebody calls `word`.
    func candidates(_ word: String) -> [String] {
        let safe = FileName.safe(word)
        if self == .flat { return word == "root" ? [root] : safe == word ? [word] : [word, safe] }
        let gateway = word.hasSuffix(".ca") ? String(word.dropLast(3)) : word
        return [word, "\(Self.edgePrefix)\(word == "root" ? "root.ca" : word)", "iot-edge-device-ca-\(gateway)"]
    }

    /// Whether a CA of this name issues for a gateway, not for a fleet.
    func isGateway(_ name: String) -> Bool { self == .flat ? name.hasSuffix(".ca") : name.hasPrefix("iot-edge-device-") }
}
