import Console
import Enrollments
import Wire

/// What the options of `create` and `update` say about an enrollment.
enum EnrollmentOptions {
    /// Those whose text or flag is a member of the document as it is: the option, the way to the member, and the member if it is a flag.
    private static let members: [(option: Option, path: [String], flag: JSONValue?)] = [
        (.value("device-id", "ID", "the device's id in the hub (else the registration id)"), ["deviceId"], nil),
        (.flag("edge", "it is a gateway for other devices"), ["capabilities", "iotEdge"], true),
        (.flag("enabled", "devices may register"), ["provisioningStatus"], "enabled"),
        (.flag("disabled", "devices may not register"), ["provisioningStatus"], "disabled"),
        (
            .value(
                "allocation", "POLICY", "how a hub is chosen: hashed, geoLatency, static or custom (else as the service does)",
                completion: .words(AllocationPolicy.allCases.map(\.rawValue))), ["allocationPolicy"], nil
        ),
        (.value("webhook", "URL", "whom custom allocation asks"), ["customAllocationDefinition", "webhookUrl"], nil),
        (.value("webhook-version", "DATE", "the api-version that the webhook knows"), ["customAllocationDefinition", "apiVersion"], nil),
        (.value("endorsement-key", "BASE64", "attest by TPM: kept and listed only"), ["attestation", "tpm", "endorsementKey"], nil),
    ]
    private static let reprovisioning: [(word: String, updates: Bool, migrates: Bool)] = [
        ("migrate", true, true), ("reset", true, false), ("never", false, false),
    ]
    /// The options, the form of attestation, and the slot.
    private static let certificates: [(option: Option, form: String, slot: String)] = [
        (.value("cert", "FILE", "attest by this certificate of the device", completion: .file), "clientCertificates", "primary"),
        (.value("secondary-cert", "FILE", "or by this one, which is to follow", completion: .file), "clientCertificates", "secondary"),
        (.value("signer", "FILE", "attest by certificates that this CA has signed", completion: .file), "signingCertificates", "primary"),
        (.value("secondary-signer", "FILE", "or that this one has", completion: .file), "signingCertificates", "secondary"),
        (.value("authority", "NAME", "attest by certificates below this CA of the service"), "caReferences", "primary"),
        (.value("secondary-authority", "NAME", "or below this one"), "caReferences", "secondary"),
    ]
    private static let keys = [("primary-key", "primaryKey"), ("secondary-key", "secondaryKey")]

    static func all(_ kind: EnrollmentKind) -> [Option] {
        let ofOne = ["device-id", "endorsement-key", "cert", "secondary-cert"]
        let options =
            keys.map { Option.value($0.0, "BASE64", "attest by this key, or @FILE (else one is made)", completion: .file) }
            + certificates.map(\.option) + members.map(\.option)
            + [
                .value("hub", "NAME", "only hubs of these names", repeats: true),
                .value("twin", "JSON", #"how the twin begins: {"tags":{},"properties":{"desired":{}}}, or @FILE"#, completion: .file),
                .value(
                    "reprovision", "HOW", "when it registers again: migrate its data, reset it, or never move it",
                    completion: .words(reprovisioning.map(\.word))),
                .value("information", "JSON", "anything about the device, or @FILE", completion: .file),
            ]
        return kind == .individual ? options : options.filter { !ofOne.contains($0.name) && $0.name != "information" }
    }

    /// Puts what the options say into the document; false when they say nothing.
    static func take(_ arguments: Arguments, into document: inout JSONValue) throws(Failure) -> Bool {
        let before = document
        for (option, path, flag) in members {
            if let value = flag.flatMap({ arguments.flag(option.name) ? $0 : .none }) ?? arguments.text(option.name).map({ .string($0) }) {
                set(value, path[...], in: &document)
            }
        }
        if arguments.flag("enabled"), arguments.flag("disabled") { throw .usage("--enabled and --disabled together", "give one of them") }
        if !arguments.list("hub").isEmpty { document["iotHubs"] = .array(arguments.list("hub").map { .string($0) }) }
        if let text = arguments.text("twin") { document["initialTwin"] = try JSONArgument.value(text) }
        if let text = arguments.text("information") { document["optionalDeviceInformation"] = try JSONArgument.value(text) }
        if let word = try arguments.choice("reprovision", of: reprovisioning.map(\.word)),
            let policy = reprovisioning.first(where: { $0.word == word })
        {
            document["reprovisionPolicy"] = ["updateHubAssignment": .bool(policy.updates), "migrateDeviceData": .bool(policy.migrates)]
        }
        try takeAttestation(arguments, into: &document)
        return document != before
    }

    private static func takeAttestation(_ arguments: Arguments, into document: inout JSONValue) throws(Failure) {
        for (option, member) in keys {
            guard let text = arguments.text(option) else { continue }
            let key = try InputFile.textOrFile(text, limit: 4096).filter { !$0.isWhitespace }
            set(.string(key), ["attestation", "symmetricKey", member], in: &document)
            document["attestation"]?["type"] = "symmetricKey"
        }
        let given = certificates.filter { arguments.flag($0.option.name) }
        guard Set(given.map(\.form)).count <= 1 else { throw .usage("--cert, --signer and --authority are three ways", "use one of them") }
        for (option, form, slot) in given {
            guard let text = arguments.text(option.name) else { continue }
            // One form takes the place of another.
            for other in certificates where other.form != form { document["attestation"]?["x509"]?[other.form] = .none }
            var value: JSONValue = .string(text)
            if form != "caReferences" { value = ["certificate": .string(try CertificateAuthorities.certificate(text))] }
            set(value, ["attestation", "x509", form, slot], in: &document)
            document["attestation"]?["type"] = "x509"
        }
        if arguments.flag("endorsement-key") { document["attestation"]?["type"] = "tpm" }
    }

    private static func set(_ value: JSONValue, _ path: ArraySlice<String>, in document: inout JSONValue) {
        guard let first = path.first else { return document = value }
        var below = document[first] ?? .null
        set(value, path.dropFirst(), in: &below)
        document[first] = below
    }

    private static func set(_ value: JSONValue, _ path: [String], in document: inout JSONValue) { set(value, path[...], in: &document) }
}
