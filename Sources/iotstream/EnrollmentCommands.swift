import Console
import Enrollments
import Registry
import Wire

/// `iotstream enrollment …` and `iotstream enrollment-group …`: who may register at the provisioning service.
struct EnrollmentCommands: Sendable {
    private static let place = """
        Acts on the state directory of the provisioning service when no connection string is given (a running one sees the change at \
        once), else on the service over its REST API, which needs a policy with EnrollmentRead or EnrollmentWrite.
        """

    static let individual = EnrollmentCommands(kind: .individual).command
    static let group = EnrollmentCommands(kind: .group).command

    private let kind: EnrollmentKind

    private var command: Command {
        let isOne = kind == .individual
        return Command(
            name: isOne ? "enrollment" : "enrollment-group",
            summary: isOne ? "says how one device is provisioned" : "says how many devices with one key or CA are provisioned",
            details: Self.place, options: Administration.options,
            subcommands: [create, show, list, update, delete, keys] + (isOne ? [] : [deriveKey]) + [registration],
            examples: isOne
                ? [
                    Example("iotstream enrollment create press-17", "prints the key that the device is to have"),
                    Example("iotstream enrollment update press-17 --hub prod-hub.example", "it goes there when it registers next"),
                    Example("iotstream enrollment create press-17 --disabled", "keeps one device of a group out"),
                ]
                : [
                    Example("iotstream enrollment-group create line-a", "devices prove themselves by keys derived from the group's"),
                    Example("iotstream enrollment-group derive-key line-a press-17", "prints the key of one of them"),
                    Example("iotstream enrollment-group create line-b --signer line-b-ca.pem", "devices with certificates of this CA"),
                ])
    }

    private var id: Operand { Operand("ID", .one, kind == .individual ? "the registration id" : "the group") }
    private static let etag = Option.value("etag", "ETAG", "only if it still has this etag")

    private func segments(_ arguments: Arguments) throws(Failure) -> [String] { [kind.collection, try arguments.required("ID")] }

    // MARK: - create, update

    private var create: Command {
        Command(
            name: "create", summary: "makes one, and prints its primary key if it has keys", options: EnrollmentOptions.all(kind),
            operands: [id],
            run: { arguments throws(Failure) in
                var document: JSONValue = ["attestation": ["type": "symmetricKey"]]
                _ = try EnrollmentOptions.take(arguments, into: &document)
                let place = try ProvisioningPlace.find(arguments), id = try arguments.required("ID")
                // A PUT would take the place of one that is there.
                document[kind.idMember] = .string(id)
                let body: JSONValue = [kind.collection: .array([document]), "mode": "create"]
                let report = try place.send("POST", [kind.collection], body)
                if let error = report["errors"]?[0] { throw Self.failure(error) }
                let path = try segments(arguments)
                let attestation = try place.send("POST", path + ["attestationmechanism"])
                guard !arguments.wantsJSON else {
                    var made = try place.send("GET", path)
                    made["attestation"] = attestation
                    return try Output.json(made)
                }
                if let key = attestation["symmetricKey"]?["primaryKey"]?.string { try Output.line(key) }
            })
    }

    private static func failure(_ error: JSONValue) -> Failure {
        Failure(.refused(code: Int(clamping: error["errorCode"]?.integer ?? 500_000), error["errorStatus"]?.string ?? ""))
    }

    private var update: Command {
        Command(
            name: "update", summary: "changes what is named, and leaves the rest; holds from the next registration on",
            options: EnrollmentOptions.all(kind) + [Self.etag], operands: [id],
            run: { arguments throws(Failure) in
                let place = try ProvisioningPlace.find(arguments), path = try segments(arguments)
                var document = try place.send("GET", path)
                guard try EnrollmentOptions.take(arguments, into: &document) else {
                    throw .usage("nothing is named that should change", "see iotstream \(arguments.path) --help")
                }
                let stored = try place.send("PUT", path, document, ifMatch: Self.condition(arguments, document))
                if arguments.wantsJSON { try Output.json(Self.withoutKeys(stored)) }
            })
    }

    /// The etag that the option names, else the document's.
    private static func condition(_ arguments: Arguments, _ document: JSONValue?) -> String? {
        switch IfMatch(header: arguments.text("etag") ?? document?["etag"]?.string) {
        case .etag(let etag): etag
        case .any: "*"
        case .absent: nil
        }
    }

    private static func withoutKeys(_ document: JSONValue) -> JSONValue {
        var document = document
        if document["attestation"]?["symmetricKey"] != .none { document["attestation"]?["symmetricKey"] = [:] }
        return document
    }

    // MARK: - show, list, delete

    private var show: Command {
        Command(
            name: "show", summary: "shows one, without its keys", operands: [id],
            run: { arguments throws(Failure) in
                try IdentityListing.show(try ProvisioningPlace.find(arguments).send("GET", try segments(arguments)), arguments)
            })
    }

    private var list: Command {
        Command(
            name: "list", summary: "lists all, or what a query finds",
            options: [.value("where", "CONDITION", "such as provisioningStatus = 'disabled', see iotstream-query(7)")],
            run: { arguments throws(Failure) in
                let query = "SELECT * FROM \(kind.collection)" + (arguments.text("where").map { " WHERE \($0)" } ?? "")
                let found = try ProvisioningPlace.find(arguments).all([kind.collection, "query"], ["query": .string(query)])
                guard !arguments.wantsJSON else { return try Output.json(.array(found)) }
                try Output.table(
                    ["ID", "STATUS", "ATTESTATION", "ALLOCATION", "HUBS"],
                    found.map { document in
                        [
                            document[kind.idMember]?.string ?? "", document["provisioningStatus"]?.string ?? "",
                            document["attestation"]?["type"]?.string ?? "", document["allocationPolicy"]?.string ?? "",
                            (document["iotHubs"]?.array ?? []).compactMap(\.string).joined(separator: " "),
                        ]
                    })
            })
    }

    private var delete: Command {
        Command(
            name: "delete", summary: "removes one; hubs keep the devices that have registered", options: [Self.etag, .yes], operands: [id],
            run: { arguments throws(Failure) in
                let place = try ProvisioningPlace.find(arguments), path = try segments(arguments)
                try Prompt.confirm("delete \(kind.word) \(path[1])?", arguments)
                _ = try place.send("DELETE", path, ifMatch: Self.condition(arguments, nil) ?? "*")
            })
    }

    // MARK: - keys

    private var keys: Command {
        Command(
            name: "keys", summary: "prints both keys; or makes one anew first, and prints them",
            options: KeySlot.options.map { option in
                var option = option
                if option.name == "primary" { option.summary = "a new primary key" }
                return option
            }, operands: [id],
            run: { arguments throws(Failure) in
                let place = try ProvisioningPlace.find(arguments), path = try segments(arguments)
                var keys = try Self.keys(place, path)
                if ["primary", "secondary", "swap"].contains(where: arguments.flag) {
                    try Self.turn(&keys, try KeySlot(arguments))
                    var document = try place.send("GET", path)
                    document["attestation"] = ["type": "symmetricKey", "symmetricKey": keys]
                    _ = try place.send("PUT", path, document, ifMatch: Self.condition(arguments, document))
                }
                guard !arguments.wantsJSON else { return try Output.json(keys) }
                for member in ["primaryKey", "secondaryKey"] { try Output.line(keys[member]?.string ?? "") }
            })
    }

    private static func keys(_ place: ProvisioningPlace, _ path: [String]) throws(Failure) -> JSONValue {
        guard let keys = try place.send("POST", path + ["attestationmechanism"])["symmetricKey"], keys.object?.isEmpty == false else {
            throw .refused("\(path[1]) has no keys", "its devices prove themselves by certificates")
        }
        return keys
    }

    /// Makes a key of a document that has two anew, or changes their places.
    static func turn(_ keys: inout JSONValue, _ slot: KeySlot) throws(Failure) {
        guard slot != .swap else {
            (keys["primaryKey"], keys["secondaryKey"]) = (keys["secondaryKey"], keys["primaryKey"])
            return
        }
        guard let key = SymmetricKey.random(count: 64) else { throw .system("no entropy") }
        keys[slot == .primary ? "primaryKey" : "secondaryKey"] = .string(key.base64)
    }

    private var deriveKey: Command {
        Command(
            name: "derive-key", summary: "prints the key of one device of a group",
            options: [.flag("secondary", "from the group's secondary key")],
            operands: [id, Operand("REGISTRATION-ID", .one, "the device, as it writes itself; in lower case is wise")],
            run: { arguments throws(Failure) in
                let keys = try Self.keys(try ProvisioningPlace.find(arguments), try segments(arguments))
                let device = try arguments.required("REGISTRATION-ID")
                guard Identifier.isValidRegistrationID(device) else {
                    throw .data(
                        "\(device): not a registration id", "it has 1 to 128 letters, digits and - . _ :, and none of . _ : at its end")
                }
                let key = try ConnectionStrings.key(keys, secondary: arguments.flag("secondary"), of: "the group").derived(for: device)
                guard let key else { throw .software("no key") }
                try arguments.wantsJSON
                    ? Output.json(["registrationId": .string(device), "key": .string(key.base64)]) : Output.line(key.base64)
            })
    }

    // MARK: - registration

    private var registration: Command {
        let isOne = kind == .individual
        let operand = Operand("ID", .one, isOne ? "the registration id, also of a device of a group" : "the group")
        let list = Command(
            name: "list", summary: "lists the devices that have registered by a group", operands: [operand],
            run: { arguments throws(Failure) in
                let found = try ProvisioningPlace.find(arguments).all(["registrations", try arguments.required("ID"), "query"], [:])
                guard !arguments.wantsJSON else { return try Output.json(.array(found)) }
                try Output.table(
                    ["ID", "HUB", "DEVICE", "LAST CHANGE", "WHEN"],
                    found.map { record in
                        ["registrationId", "assignedHub", "deviceId", "substatus", "lastUpdatedDateTimeUtc"].map {
                            record[$0]?.string ?? ""
                        }
                    })
            })
        let show = Command(
            name: "show", summary: "shows where a device was assigned", operands: [operand],
            run: { arguments throws(Failure) in
                let id = try arguments.required("ID")
                try IdentityListing.show(try ProvisioningPlace.find(arguments).send("GET", ["registrations", id]), arguments)
            })
        let delete = Command(
            name: "delete", summary: "forgets where a device was assigned: its next registration is its first", options: [.yes],
            operands: [operand],
            run: { arguments throws(Failure) in
                let place = try ProvisioningPlace.find(arguments), id = try arguments.required("ID")
                try Prompt.confirm("forget the registration of \(id)?", arguments)
                _ = try place.send("DELETE", ["registrations", id], ifMatch: "*")
            })
        return Command(
            name: "registration", summary: isOne ? "where devices were assigned" : "who has registered by a group",
            subcommands: isOne ? [show, delete] : [list])
    }
}
