import Console
import Wire

/// How a new device or module is to prove itself: what `--auth` and the thumbprints say.
enum Attestation {
    static let options: [Option] = [
        .value("auth", "WAY", "how it proves itself: sas (a key), thumbprint or ca", completion: .words(["sas", "thumbprint", "ca"])),
        .value("primary-thumbprint", "HEX", "SHA-1 or SHA-256 of its certificate"),
        .value("secondary-thumbprint", "HEX", "of the certificate that is to follow"),
    ]

    /// The member `authentication` of the request; missing keys are the hub's to make.
    static func authentication(_ arguments: Arguments) throws(Failure) -> JSONValue {
        let thumbprints = [arguments.text("primary-thumbprint"), arguments.text("secondary-thumbprint")]
        let hasThumbprint = thumbprints.contains { $0 != nil }
        let way = try arguments.choice("auth", of: ["sas", "thumbprint", "ca"]) ?? (hasThumbprint ? "thumbprint" : "sas")
        guard hasThumbprint == (way == "thumbprint") else {
            throw hasThumbprint
                ? .usage("--auth \(way) takes no thumbprint", "leave it out, or use --auth thumbprint")
                : .usage("--auth thumbprint needs a thumbprint", "add --primary-thumbprint; iotstream cert thumbprint FILE prints it")
        }
        switch way {
        case "thumbprint":
            return [
                "type": "selfSigned",
                "x509Thumbprint": [
                    "primaryThumbprint": thumbprints[0].map { .string(hex($0)) } ?? .null,
                    "secondaryThumbprint": thumbprints[1].map { .string(hex($0)) } ?? .null,
                ],
            ]
        case "ca": return ["type": "certificateAuthority"]
        default: return ["type": "sas"]
        }
    }

    /// Without the colons that other tools put between the bytes.
    private static func hex(_ text: String) -> String { text.filter { $0 != ":" && $0 != " " } }
}
