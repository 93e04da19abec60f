import Bytes
import TLS
import Wire

/// An individual enrollment or an enrollment group (dps 14.3).
package struct Enrollment: Sendable {
    package let name: EnrollmentName
    /// The hub device's id, when it is to be another than the registration id.
    package var deviceID: String?
    package var attestation: Attestation
    package var isEdge = false
    /// `{"tags": {}, "properties": {"desired": {}}}`.
    package var initialTwin: JSONValue?
    package var isEnabled = true
    /// Nil: as usual, and never for devices of the oldest api-versions.
    package var reprovision: ReprovisionPolicy?
    /// Nil: the service's own.
    package var allocation: AllocationPolicy?
    /// Names of hubs; empty: every linked hub.
    package var hubs: [String] = []
    package var webhook: Webhook?
    /// Members without a meaning here, kept as they are.
    private var others = JSONObject()
    /// Without quotes.
    package var etag: String
    package var created, updated: Timestamp

    private static let otherMembers = [
        "iotHubHostName", "optionalDeviceInformation", "credentialPolicyName", "clientCertificateIssuancePolicy",
    ]

    /// Reads a request's document, as an enrollment that has just been written.
    ///
    /// - Parameter existing: the record in whose place it is put.
    package init(json: JSONValue, name: EnrollmentName, existing: Enrollment?, etag: String, now: Timestamp) throws(EnrollmentError) {
        guard json.object != nil else { throw .invalid("the body is not an object") }
        if let id = try json.text(name.kind.idMember), !ASCII.equalIgnoringCase(id, name.id) {
            throw .invalid("\(name.kind.idMember) of the body is not the one of the path")
        }
        self.name = existing?.name ?? name
        self.etag = etag
        created = existing?.created ?? now
        updated = now
        attestation = try Attestation(json: json["attestation"], kind: name.kind, existing: existing?.attestation)
        if name.kind == .individual, let id = try json.text("deviceId"), !id.isEmpty {
            guard Identifier.isValidID(id) else { throw .invalid("deviceId breaks the rule for ids") }
            deviceID = id
        }
        isEdge = try json.object("capabilities")?.flag("iotEdge") ?? false
        switch try json.text("provisioningStatus")?.lowercased() {
        case nil, "enabled"?: isEnabled = true
        case "disabled"?: isEnabled = false
        default: throw .invalid("provisioningStatus is enabled or disabled")
        }
        if let policy = try json.object("reprovisionPolicy") { reprovision = try ReprovisionPolicy(json: policy) }
        try takeAllocation(json)
        initialTwin = try json.object("initialTwin").map { twin throws(EnrollmentError) in try Self.twin(twin) }
        for key in Self.otherMembers { if let value = json[key], !value.isNull { others[key] = value } }
    }

    private mutating func takeAllocation(_ json: JSONValue) throws(EnrollmentError) {
        allocation = try json.text("allocationPolicy").map { text throws(EnrollmentError) in try AllocationPolicy(parsing: text) }
        let names = try json.member("iotHubs", as: "an array") { $0.array } ?? []
        for name in names {
            guard let name = name.string, !name.isEmpty else { throw .invalid("iotHubs has names of hubs") }
            hubs.append(name)
        }
        if hubs.isEmpty, let host = try json.text("iotHubHostName"), !host.isEmpty {
            hubs = [host]
            allocation = allocation ?? .static
        }
        webhook = try json.object("customAllocationDefinition").map { json throws(EnrollmentError) in try Webhook(json: json) }
        if allocation == .custom, webhook == nil { throw .invalid("allocationPolicy custom needs customAllocationDefinition") }
        if allocation == .static, hubs.count > 1 { throw .invalid("allocationPolicy static takes one hub") }
    }

    /// A twin's beginning without what nobody asked for; both parts are objects if there.
    static func twin(_ json: JSONValue) throws(EnrollmentError) -> JSONValue {
        let desired = try json.object("properties")?.object("desired")
        return .object(of: ["tags": try json.object("tags"), "properties": desired.map { ["desired": $0] }])
    }

    /// The document; times, etag and certificates' facts are in it.
    package func json(_ secrets: Attestation.Secrets = .none) -> JSONValue {
        var json = JSONValue.object(of: [
            name.kind.idMember: .string(name.id), "deviceId": deviceID.map { .string($0) },
            "attestation": attestation.json(secrets: secrets), "capabilities": ["iotEdge": .bool(isEdge)], "initialTwin": initialTwin,
            "provisioningStatus": isEnabled ? "enabled" : "disabled", "reprovisionPolicy": reprovision?.json,
            "allocationPolicy": allocation.map { .string($0.rawValue) },
            "iotHubs": hubs.isEmpty ? .none : .array(hubs.map { .string($0) }), "customAllocationDefinition": webhook?.json,
            "etag": .string("\"\(etag)\""), "createdDateTimeUtc": .string(created.description),
            "lastUpdatedDateTimeUtc": .string(updated.description),
        ])
        for (key, value) in others { json[key] = value }
        return json
    }
}

extension Enrollment {
    /// Reads what `json(.stored)` wrote.
    package init?(record: RawSpan, _ kind: EnrollmentKind) {
        guard let json = try? JSONValue.parse(record), let id = json[kind.idMember]?.string, let name = try? EnrollmentName(kind, id),
            case .etag(let etag) = IfMatch(header: json["etag"]?.string),
            let created = json["createdDateTimeUtc"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let updated = json["lastUpdatedDateTimeUtc"]?.string.flatMap({ Timestamp(parsing: $0) }),
            var enrollment = try? Enrollment(json: json, name: name, existing: nil, etag: etag, now: updated)
        else { return nil }
        enrollment.created = created
        self = enrollment
    }
}
