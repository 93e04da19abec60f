import Console
import Glibc
import TLS

/// `iotstream cert`: makes and examines the certificates of hubs, devices and their authorities.
package enum CertRole {
    package static let command = Command(
        name: "cert", summary: "make and examine certificates",
        details: """
            A small certificate authority in a directory: a root, perhaps intermediates, certificates for servers and devices. Keys are \
            readable by their owner only, and nothing is overwritten without --force.

            NAME.full-chain.cert.pem holds the certificate and the intermediates above it; the root is not in it. In a directory of IoT \
            Edge's test scripts (certs, private, csr) files are found and made under the names that the scripts use.
            """,
        subcommands: [
            root, intermediate, server, device, edge, verification, request, sign, show, verify, thumbprint, renew,
        ],
        examples: [
            Example("iotstream cert gen-root", "make a root certificate in ./certs"),
            Example("iotstream cert gen-server hub.example 192.0.2.7", "a server certificate for a name and an address"),
            Example("iotstream cert verify certs/hub.example.full-chain.cert.pem --ca certs/root.ca.cert.pem", "check it against the root"),
        ])

    private static let directory = Option.value("dir", "DIR", "directory of the files (default ./certs)", completion: .directory)
    private static let force = Option.flag("force", "replace files that are there")
    private static let issuer = Option.value("ca", "NAME", "the issuer: a CA of the directory, or root")
    private static let algorithm = Option.value(
        "algorithm", "KIND", "kind of key: \(KeyAlgorithm.allCases.map(\.rawValue).joined(separator: ", ")) (default p256)",
        completion: .words(KeyAlgorithm.allCases.map(\.rawValue)))

    private static func days(_ count: Int) -> Option { .value("days", "N", "days of validity (default \(count))") }
    private static func making(_ days: Int) -> [Option] { [directory, issuer, Self.days(days), algorithm, force, .json] }

    private static let root = Command(
        name: "gen-root", summary: "make a self-signed root",
        options: [
            directory, .value("name", "CN", "its common name (default iotstream root)"), days(3650), algorithm,
            .value(
                "layout", "KIND", "flat, or edge: names and directories as IoT Edge's test scripts have them (default flat)",
                completion: .words(Layout.allCases.map(\.rawValue))), force, .json,
        ]
    ) { arguments throws(Failure) in
        try generate(.root(name: arguments.text("name") ?? "iotstream root"), days: 3650, arguments)
    }

    private static let intermediate = Command(
        name: "gen-intermediate", summary: "make a CA below the root",
        options: making(1825) + [.value("path-length", "N", "CAs that may follow below it (default 0)")], operands: [Operand("NAME")]
    ) { arguments throws(Failure) in
        let length = try arguments.integer("path-length", in: 0...8) ?? 0
        try generate(.intermediate(name: arguments.required("NAME"), pathLength: length), days: 1825, arguments)
    }

    private static let server = Command(
        name: "gen-server", summary: "make a TLS server's certificate", options: making(365),
        operands: [Operand("HOSTNAME"), Operand("SAN", .many, "further host names and IP addresses it answers to")]
    ) { arguments throws(Failure) in
        let names = [try arguments.required("HOSTNAME")] + arguments.operandList("SAN")
        try generate(.server(names: names), days: 365, arguments)
    }

    private static let device = Command(
        name: "gen-device", summary: "make a device's certificate",
        options: making(365) + [.value("module", "M", "for this module of the device")], operands: [Operand("ID")]
    ) { arguments throws(Failure) in
        let id = try arguments.required("ID")
        guard !id.utf8.contains(UInt8(ascii: "/")) else { throw .usage("'\(id)': not a device id", "name a module with --module") }
        try generate(.device(id: arguments.text("module").map { "\(id)/\($0)" } ?? id), days: 365, arguments)
    }

    private static let edge = Command(
        name: "gen-edge-ca", summary: "make a gateway's CA (NAME.ca)",
        details: "The issuer must allow a CA below it: the root, or an intermediate made with --path-length 1.",
        options: making(1825), operands: [Operand("NAME")]
    ) { arguments throws(Failure) in
        try generate(.edge(name: arguments.required("NAME")), days: 1825, arguments)
    }

    private static let verification = Command(
        name: "gen-verification", summary: "prove the possession of a CA's key",
        details: "The root signs unless --ca names another CA. No key is kept: the certificate is the proof.",
        options: making(30), operands: [Operand("CODE", .one, "the verification code that the hub gave out")]
    ) { arguments throws(Failure) in
        try generate(.verification(code: arguments.required("CODE")), days: 30, arguments)
    }

    private static let role = Option.value(
        "as", "WHAT", "what it is for: device, server, intermediate or edge-ca (default device)", completion: .words(roles))
    private static let roles = ["device", "server", "intermediate", "edge-ca"]

    private static let request = Command(
        name: "gen-request", summary: "make a key and ask for a certificate (CSR)",
        details: "NAME.csr.pem goes to somebody who has a CA: iotstream cert sign, or openssl. The key stays here.",
        options: [
            directory, role, .value("key", "FILE", "ask for a certificate of this key (default: a new one)", completion: .file), algorithm,
            force, .json,
        ],
        operands: [Operand("NAME"), Operand("SAN", .many, "further host names and IP addresses of a server")]
    ) { arguments throws(Failure) in
        let name = try arguments.required("NAME"), names = arguments.operandList("SAN")
        let kind = try kind(arguments, name, names: [name] + names)
        if !names.isEmpty {
            guard case .server = kind else { throw .usage("only a server has further names", "give --as server") }
        }
        let made = try generation(kind, days: 1, arguments).ask(keyPath: arguments.text("key"))
        try Inspection.print(made.request, made.path, keyPath: made.keyPath, json: arguments.wantsJSON)
    }

    private static let sign = Command(
        name: "sign", summary: "issue the certificate that a request asks for",
        details: """
            The name, a server's alternative names and the key are taken from the request; what the certificate may be used for is what \
            --as says, whatever was asked for.
            """,
        options: [
            directory, issuer, role, .value("days", "N", "days of validity (default 365, of a CA 1825)"),
            .value("path-length", "N", "CAs that may follow below an intermediate (default 0)"),
            force, .json,
        ],
        operands: [Operand("FILE", .one, "the request: PEM or DER; - is standard input", completion: .file)]
    ) { arguments throws(Failure) in
        let path = try arguments.required("FILE"), bytes = try InputFile.read(path, limit: CredentialFile.limit)
        let request = try about(path == "-" ? "standard input" : path) { () throws(CertificateError) in try CertificateRequest(bytes: bytes)
        }
        let names = request.alternativeNames.map(\.description)
        guard let name = request.commonName ?? names.first else {
            throw .data("\(path): the request has no common name, or several", "ask again with one")
        }
        let kind = try kind(arguments, name, names: names.contains(name) ? names : [name] + names)
        let isCA = ["intermediate", "edge-ca"].contains(arguments.text("as"))
        var generation = try generation(kind, days: isCA ? 1825 : 365, arguments)
        generation.request = request
        try generation.run().print(json: arguments.wantsJSON)
    }

    /// What --as makes of a name; a gateway's CA is called NAME.ca already when it asks.
    private static func kind(_ arguments: Arguments, _ name: String, names: [String]) throws(Failure) -> Generation.Kind {
        switch try arguments.choice("as", of: roles) {
        case "server": .server(names: names)
        case "intermediate":
            .intermediate(name: name, pathLength: try arguments.integer("path-length", in: 0...8) ?? 0)
        case "edge-ca": .edge(name: name.hasSuffix(".ca") ? String(name.dropLast(3)) : name)
        default: .device(id: name)
        }
    }

    private static let show = Command(
        name: "show", summary: "print what certificates say", options: [.json],
        operands: [Operand("FILE", .oneOrMore, "PEM or DER; - is standard input", completion: .file)]
    ) { arguments throws(Failure) in
        try Inspection.show(arguments.operandList("FILE"), json: arguments.wantsJSON)
    }

    private static let verify = Command(
        name: "verify", summary: "check a chain, and tell why it fails",
        options: [
            .value("ca", "FILE", "the certificates to trust", completion: .file),
            .value("hostname", "NAME", "the name or address that a server must have"),
            .value("purpose", "WHAT", "any, server or client (default any)", completion: .words(["any", "server", "client"])),
            .value("device", "ID", "judge it as a hub does that has those authorities, for this device"),
            .flag("strict", "every rule of RFC 5280"), .json,
        ],
        operands: [Operand("FILE", .one, "the certificate, and the intermediates after it", completion: .file)]
    ) { arguments throws(Failure) in
        guard let ca = arguments.text("ca") else { throw .usage("--ca is missing", "name the file of the root") }
        let purpose = try purpose(arguments)
        let path = try arguments.required("FILE")
        try Inspection.verify(
            path, caPath: ca, purpose: purpose, device: arguments.text("device"), strict: arguments.flag("strict"), now: now,
            json: arguments.wantsJSON)
    }

    private static let thumbprint = Command(
        name: "thumbprint", summary: "print a certificate's thumbprint for the registry",
        options: [.flag("sha1", "SHA-1 in place of SHA-256"), .json],
        operands: [Operand("FILE", .one, "PEM or DER; - is standard input", completion: .file)]
    ) { arguments throws(Failure) in
        try Inspection.thumbprint(arguments.required("FILE"), sha1: arguments.flag("sha1"), json: arguments.wantsJSON)
    }

    private static let renew = Command(
        name: "renew", summary: "give a certificate a new validity, same names, and the same key unless it is rolled",
        options: [
            .flag("roll-key", "a new key of the same kind; not for a CA, which would be another one then"),
            .value("dir", "DIR", "where the issuer and its key are (default: beside FILE)", completion: .directory),
            .value("days", "N", "days of validity (default: as long as before)"), .json,
        ],
        operands: [Operand("FILE", .one, "NAME.cert.pem; its full-chain file follows", completion: .file)]
    ) { arguments throws(Failure) in
        let issuers = arguments.text("dir").map { CertificateDirectory(path: trimmed($0)) }
        let days = try arguments.integer("days", in: 1...36500)
        let renewal = try Renewal(
            path: arguments.required("FILE"), issuers: issuers, days: days, rollsKey: arguments.flag("roll-key"), now: now)
        try renewal.run().print(json: arguments.wantsJSON)
    }

    private static var now: Int64 { Int64(time(nil)) }

    private static func generate(_ kind: Generation.Kind, days: Int, _ arguments: Arguments) throws(Failure) {
        try generation(kind, days: days, arguments).run().print(json: arguments.wantsJSON)
    }

    private static func generation(_ kind: Generation.Kind, days: Int, _ arguments: Arguments) throws(Failure) -> Generation {
        let word = try arguments.choice("algorithm", of: KeyAlgorithm.allCases.map(\.rawValue))
        let path = trimmed(arguments.text("dir") ?? "certs")
        let layout = try arguments.choice("layout", of: Layout.allCases.map(\.rawValue)).flatMap(Layout.init)
        return Generation(
            kind: kind, directory: layout.map { CertificateDirectory(path: path, layout: $0) } ?? CertificateDirectory(path: path),
            issuer: arguments.text("ca"), days: try arguments.integer("days", in: 1...36500) ?? days,
            algorithm: word.flatMap(KeyAlgorithm.init) ?? .p256, force: arguments.flag("force"), now: now)
    }

    private static func purpose(_ arguments: Arguments) throws(Failure) -> CertificatePurpose {
        let word = try arguments.choice("purpose", of: ["any", "server", "client"])
        guard let text = arguments.text("hostname") else {
            return word == "server" ? .server(name: nil) : word == "client" ? .client : .any
        }
        guard word != "client", word != "any" else { throw .usage("--hostname is for servers", "leave out --purpose") }
        do throws(CertificateError) { return .server(name: try AlternativeName(text)) } catch { throw .usage("--hostname: \(error)") }
    }

    /// Without slashes at its end; empty is the current directory.
    private static func trimmed(_ path: String) -> String {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        return path.isEmpty ? "." : path
    }
}
