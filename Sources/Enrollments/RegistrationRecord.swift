import Bytes
import Wire

/// Where a device was assigned when it last registered (dps 6.2).
package struct RegistrationRecord: Sendable, Equatable {
    /// As the device wrote it the first time.
    package let registrationID: String
    package internal(set) var created, updated: Timestamp
    /// A name that a hub is linked by.
    package internal(set) var hub: String
    package internal(set) var deviceID: String
    /// What the last change of assignment was: `initialAssignment`, `deviceDataMigrated`, `deviceDataReset`.
    package internal(set) var substatus: String
    /// `symmetricKey` or `x509`, and what the document says there.
    package internal(set) var attestationType: String
    package internal(set) var attestation: JSONValue
    package internal(set) var payload: JSONValue?
    /// The hubs that it was spread over, see `HubCandidates.signature`; nil when another rule decided.
    package internal(set) var candidates: String?
    /// A guid.
    package internal(set) var etag: String

    package var key: String { registrationID.lowercased() }
    /// The enrollment group's id; nil for an individual enrollment.
    package var group: String? { attestation["enrollmentGroupId"]?.string }

    /// The member `registrationState`, and the service's DeviceRegistrationState.
    package var json: JSONValue {
        var json = JSONValue.object(of: [
            "registrationId": .string(registrationID), "createdDateTimeUtc": .string(created.description), "assignedHub": .string(hub),
            "deviceId": .string(deviceID), "status": "assigned", "substatus": .string(substatus),
            "lastUpdatedDateTimeUtc": .string(updated.description), "etag": .string(writtenETag), attestationType: attestation,
        ])
        if let payload { json["payload"] = payload }
        return json
    }

    /// The member `registrationState` as the device is told it: with `assignedHubPort`, which is ours, where the hub's HTTPS is not on 443.
    ///
    /// - Parameter hub: the linked one of that name. One that we reach by another name may have another port there, so none is told.
    package func told(at hub: LinkedHub?) -> JSONValue {
        var json = json
        if let place = hub?.connection.host, let port = place.port, ASCII.equalIgnoringCase(place.host, self.hub) {
            json["assignedHubPort"] = .integer(Int64(port))
        }
        return json
    }

    /// Base64 of the quoted guid, as documents and `If-Match` have it.
    package var writtenETag: String { Base64.encode("\"\(etag)\"".utf8) }

    init(
        registrationID: String, created: Timestamp, updated: Timestamp, hub: String, deviceID: String, substatus: String,
        attestationType: String, attestation: JSONValue, payload: JSONValue?, candidates: String?, etag: String
    ) {
        self.registrationID = registrationID
        self.created = created
        self.updated = updated
        self.hub = hub
        self.deviceID = deviceID
        self.substatus = substatus
        self.attestationType = attestationType
        self.attestation = attestation
        self.payload = payload
        self.candidates = candidates
        self.etag = etag
    }

    /// What the store keeps.
    func record() -> [UInt8] {
        var record = json
        record["guid"] = .string(etag)
        if let candidates { record["candidates"] = .string(candidates) }
        return record.bytes()
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let type = ["symmetricKey", "x509"].first(where: { json[$0] != nil }),
            let id = json["registrationId"]?.string, let hub = json["assignedHub"]?.string, let device = json["deviceId"]?.string,
            let created = json["createdDateTimeUtc"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let updated = json["lastUpdatedDateTimeUtc"]?.string.flatMap({ Timestamp(parsing: $0) }), let etag = json["guid"]?.string
        else { return nil }
        self.init(
            registrationID: id, created: created, updated: updated, hub: hub, deviceID: device,
            substatus: json["substatus"]?.string ?? "initialAssignment", attestationType: type, attestation: json[type] ?? [:],
            payload: json["payload"], candidates: json["candidates"]?.string, etag: etag)
    }
}
