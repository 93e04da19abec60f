import Console
import Registry
import Wire

/// `iotstream authority …`: who vouches for devices' certificates.
enum AuthorityCommands {
    static let command = Command(
        name: "authority", summary: "manages the authorities that vouch for devices' certificates",
        details: """
            A device made with --auth ca comes in by a certificate that leads to one of these; its CN is the device's id, with case. An \
            authority counts once somebody has proved to hold its key: add prints a code, the key signs a certificate for that code, \
            and verify takes it. A root or an intermediate will do. Over REST this needs a policy with RegistryRead or RegistryWrite.
            """,
        options: Administration.options, subcommands: [add, code, verify, list, show, delete],
        examples: [
            Example("iotstream authority add plant certs/root.ca.cert.pem", "registers a root, prints the code and what to do with it"),
            Example("iotstream authority add plant certs/root.ca.cert.pem --verified", "without the proof: its owner says so"),
            Example("iotstream authority delete plant", "keeps out every device under it, and cuts those that are there"),
        ])

    private static let name = Operand("NAME", .one, "the authority")

    private static let add = Command(
        name: "add", summary: "registers a CA's certificate; prints the code that its key has to sign",
        options: [
            .flag("verified", "it counts at once: its owner vouches for it"),
            .flag("replace", "another certificate under a name that is there; it has to be verified anew"),
        ],
        operands: [name, Operand("FILE", .one, "its certificate, PEM or DER", completion: .file)], run: runAdd)

    @Sendable private static func runAdd(_ arguments: Arguments) throws(Failure) {
        let name = try arguments.required("NAME"), path = try arguments.required("FILE")
        let hub = try Administration.find(arguments), certificate = try CertificateAuthorities.certificate(path)
        let document = try hub.putAuthority(
            name, certificate, isVerified: arguments.flag("verified") ? true : nil, etag: arguments.flag("replace") ? "*" : nil)
        guard document["properties"]?["isVerified"]?.bool != true else {
            if arguments.wantsJSON { try Output.json(document) }
            return
        }
        try printCode(try hub.makeCode(of: name), of: name, path, arguments)
    }

    private static let code = Command(
        name: "code", summary: "prints a new code for the key to sign; the one before is good for nothing then", operands: [name],
        run: runCode)

    @Sendable private static func runCode(_ arguments: Arguments) throws(Failure) {
        let name = try arguments.required("NAME")
        try printCode(try Administration.find(arguments).makeCode(of: name), of: name, nil, arguments)
    }

    /// The code is the result; what to type next is for the person.
    ///
    /// - Parameter path: of the authority's certificate, by which its files are known.
    private static func printCode(_ document: JSONValue, of name: String, _ path: String?, _ arguments: Arguments) throws(Failure) {
        guard let code = document["properties"]?["verificationCode"]?.string else { throw .software("the hub gave no code") }
        var words = "", place = "certs/"
        if let path {
            let parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            place = parts.dropLast().map { $0 + "/" }.joined()
            if place != "certs/", place != "./certs/" { words = " --dir \(place.isEmpty ? "." : place)" }
            let file = parts.last ?? "", ending = ".cert.pem"
            if file.hasSuffix(ending), file != "root.ca.cert.pem" { words += " --ca \(file.dropLast(ending.utf8.count))" }
        }
        Output.tell("\(name) counts when its key has signed this code:")
        Output.tell("  iotstream cert gen-verification \(code)\(words)")
        Output.tell("  iotstream authority verify \(name) \(place)\(code).cert.pem")
        try arguments.wantsJSON ? Output.json(document) : Output.line(code)
    }

    private static let verify = Command(
        name: "verify", summary: "takes the certificate that the authority's key has signed for the code",
        operands: [name, Operand("FILE", .one, "the proof, PEM or DER", completion: .file)], run: runVerify)

    @Sendable private static func runVerify(_ arguments: Arguments) throws(Failure) {
        let proof = try CertificateAuthorities.certificate(try arguments.required("FILE"))
        let document = try Administration.find(arguments).verifyAuthority(try arguments.required("NAME"), proof: proof)
        if arguments.wantsJSON { try Output.json(document) }
    }

    private static let list = Command(name: "list", summary: "lists the authorities", run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        try CertificateAuthorities.list(try Administration.find(arguments).authorities(), arguments)
    }

    private static let show = Command(name: "show", summary: "shows an authority with its certificate", operands: [name], run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        let document = try Administration.find(arguments).authority(try arguments.required("NAME"))
        try arguments.wantsJSON ? Output.json(document) : Output.line(document.text(style: .pretty))
    }

    private static let delete = Command(
        name: "delete", summary: "forgets an authority, and cuts the devices that came in by it", options: [.yes], operands: [name],
        run: runDelete)

    @Sendable private static func runDelete(_ arguments: Arguments) throws(Failure) {
        let name = try arguments.required("NAME"), hub = try Administration.find(arguments)
        try Prompt.confirm("delete authority \(name)?", arguments)
        try hub.deleteAuthority(name)
    }
}
