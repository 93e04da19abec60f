import Console
import Enrollments
import Registry
import Wire

/// `iotstream provisioning …`: the provisioning service itself.
enum ProvisioningCommand {
    static let command = Command(
        name: "provisioning", summary: "looks after a provisioning service: its id scope, policies and CA certificates",
        details: """
            Acts on the service's state directory when no connection string is given, else on the service over its REST API, which needs a \
            policy with ServiceConfig.
            """,
        options: Administration.options, subcommands: [show, set, connectionString, policy, authority],
        examples: [
            Example("iotstream provisioning show", "prints the id scope that devices need"),
            Example("iotstream provisioning connection-string --hostname dps.example", "what administers the service from elsewhere"),
        ])

    private static let show = Command(name: "show", summary: "shows the id scope and the usual allocation", run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        try IdentityListing.show(try ProvisioningPlace.find(arguments).send("GET", ["settings"]), arguments)
    }

    private static let set = Command(
        name: "set", summary: "changes the usual allocation",
        details: "It holds for enrollments that name none, from the next registration on.",
        options: [
            .value(
                "allocation", "POLICY", "how a hub is chosen: hashed, geoLatency or static",
                completion: .words(["hashed", "geoLatency", "static"]))
        ], run: runSet)

    @Sendable private static func runSet(_ arguments: Arguments) throws(Failure) {
        guard let policy = arguments.text("allocation") else { throw .usage("nothing is named that should change", "give --allocation") }
        _ = try ProvisioningPlace.find(arguments).send("PUT", ["settings"], ["allocationPolicy": .string(policy)])
    }

    // MARK: - Policies

    private static let connectionString = Command(
        name: "connection-string", summary: "prints a policy's connection string",
        options: [
            .value("hostname", "NAME", "the service's name, with its port if that is not 443"),
            .flag("secondary", "with the secondary key"),
        ],
        operands: [Operand("POLICY", .optional, "the policy (provisioningserviceowner)")], run: runConnectionString)

    @Sendable private static func runConnectionString(_ arguments: Arguments) throws(Failure) {
        let place = try ProvisioningPlace.find(arguments), host = try place.host(arguments)
        let policy = try place.send("GET", ["policies", arguments.operand("POLICY") ?? "provisioningserviceowner"])
        let text = try ConnectionStrings.of(policy: policy, host: host, secondary: arguments.flag("secondary"))
        try arguments.wantsJSON ? Output.json(["connectionString": .string(text)]) : Output.line(text)
    }

    private static let policyName = Operand("NAME", .one, "the policy")
    private static let policy = Command(
        name: "policy", summary: "says who may administer the service",
        subcommands: [
            Command(
                name: "create", summary: "makes a policy, or gives one other rights",
                options: [
                    .value(
                        "rights", "RIGHTS",
                        "some of ServiceConfig, EnrollmentRead, EnrollmentWrite, RegistrationStatusRead and RegistrationStatusWrite")
                ], operands: [policyName],
                run: { arguments throws(Failure) in
                    guard let rights = arguments.text("rights") else { throw .usage("--rights is missing") }
                    let path = ["policies", try arguments.required("NAME")]
                    let stored = try ProvisioningPlace.find(arguments).send("PUT", path, ["rights": .string(rights)])
                    if arguments.wantsJSON { try Output.json(stored) }
                }),
            Command(
                name: "rotate-key", summary: "makes a key of a policy anew", options: KeySlot.options, operands: [policyName],
                run: { arguments throws(Failure) in
                    let place = try ProvisioningPlace.find(arguments), path = ["policies", try arguments.required("NAME")]
                    var policy = try place.send("GET", path)
                    try EnrollmentCommands.turn(&policy, try KeySlot(arguments))
                    let stored = try place.send("PUT", path, policy)
                    if arguments.wantsJSON { try Output.json(stored) }
                }),
            Command(
                name: "list", summary: "lists the policies",
                run: { arguments throws(Failure) in
                    let found = try ProvisioningPlace.find(arguments).send("GET", ["policies"])
                    guard !arguments.wantsJSON else { return try Output.json(found) }
                    try Output.table(
                        ["NAME", "RIGHTS"], (found.array ?? []).map { [$0["keyName"]?.string ?? "", $0["rights"]?.string ?? ""] })
                }),
            removal("policies", "removes a policy", policyName),
        ])

    // MARK: - CA certificates

    private static let authorityName = Operand("NAME", .one, "the CA, as enrollment groups refer to it")
    private static let file = Operand("FILE", .one, "the certificate, PEM or DER", completion: .file)
    private static let authority = Command(
        name: "authority", summary: "keeps the CA certificates that enrollment groups go by",
        details: """
            A CA counts once somebody has shown to have its key: `code` prints a code, `iotstream cert gen-verification` has it signed, \
            and `verify` takes what came of it. Whoever may administer the service may vouch for it instead: `add --verified`.
            """,
        subcommands: [
            Command(
                name: "add", summary: "keeps a CA's certificate, or another one under its name",
                options: [.flag("verified", "no proof is needed: I know that its owner has the key")], operands: [authorityName, file],
                run: { arguments throws(Failure) in
                    let text = try CertificateAuthorities.certificate(try arguments.required("FILE"))
                    let body: JSONValue = [
                        "properties": ["certificate": .string(text), "isVerified": .bool(arguments.flag("verified"))]
                    ]
                    try change("PUT", [], body, arguments)
                }),
            Command(
                name: "code", summary: "prints a new verification code", operands: [authorityName],
                run: { arguments throws(Failure) in
                    let path = ["certificates", try arguments.required("NAME"), "generateVerificationCode"]
                    let stored = try ProvisioningPlace.find(arguments).send("POST", path)
                    guard !arguments.wantsJSON else { return try Output.json(stored) }
                    try Output.line(stored["properties"]?["verificationCode"]?.string ?? "")
                }),
            Command(
                name: "verify", summary: "takes a certificate with the code as its name, signed by the CA",
                operands: [authorityName, file],
                run: { arguments throws(Failure) in
                    let text = try CertificateAuthorities.certificate(try arguments.required("FILE"))
                    try change("POST", ["verify"], ["certificate": .string(text)], arguments)
                }),
            Command(
                name: "list", summary: "lists the CAs",
                run: { arguments throws(Failure) in
                    let found = try ProvisioningPlace.find(arguments).send("GET", ["certificates"])
                    try CertificateAuthorities.list(found.array ?? [], arguments)
                }),
            removal("certificates", "removes a CA that no enrollment refers to", authorityName),
        ])

    private static func change(_ method: String, _ rest: [String], _ body: JSONValue, _ arguments: Arguments) throws(Failure) {
        let path = ["certificates", try arguments.required("NAME")] + rest
        let stored = try ProvisioningPlace.find(arguments).send(method, path, body)
        if arguments.wantsJSON { try Output.json(stored) }
    }

    private static func removal(_ collection: String, _ summary: String, _ operand: Operand) -> Command {
        Command(
            name: "delete", summary: summary, options: [.yes], operands: [operand],
            run: { arguments throws(Failure) in
                let place = try ProvisioningPlace.find(arguments), name = try arguments.required("NAME")
                try Prompt.confirm("delete \(name)?", arguments)
                _ = try place.send("DELETE", [collection, name])
            })
    }
}
