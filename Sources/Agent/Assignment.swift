import LinuxIO
import Wire

/// Which registration of which provisioning service this device is.
package struct RegistrationName: Equatable, Sendable {
    /// The service's device endpoint.
    package var endpoint: HostPort
    /// Letters and digits; selects the service behind a shared endpoint (dps 1).
    package var scope: String
    package var id: String

    package init(endpoint: HostPort, scope: String, id: String) {
        self.endpoint = endpoint
        self.scope = scope
        self.id = id
    }

    /// What tokens name, and where the service is asked: `{idScope}/registrations/{registrationId}`, not encoded.
    var resource: String { "\(scope)/registrations/\(id)" }
}

/// Where a provisioning service has put this device. The agent keeps it in a file, so as to come back without the service.
package struct Assignment: Equatable, Sendable {
    package var registration: RegistrationName
    /// With a port only where the service named one.
    package var hub: HostPort
    package var deviceID: String
    /// Of the leaf that was shown, SHA-256 in hex; nil for a device with a key.
    package var thumbprint: String?

    private static let limit = 64 << 10

    /// The assignment in the file; nil when there is none, it cannot be understood, or it is another registration's.
    static func read(_ path: String, of registration: RegistrationName) -> Assignment? {
        (try? Files.read(path, limit: limit)).flatMap { Assignment(bytes: $0, of: registration) }
    }

    /// Reads what `bytes` writes; nil for anything else, and for another registration's.
    package init?(bytes: [UInt8], of registration: RegistrationName) {
        guard let json = try? JSONValue.parse(bytes, depth: 8, limit: Self.limit) else { return nil }
        guard json["endpoint"]?.string == registration.endpoint.description, json["idScope"]?.string == registration.scope,
            json["registrationId"]?.string == registration.id, let hub = json["assignedHub"]?.string.flatMap({ HostPort(parsing: $0) }),
            let device = json["deviceId"]?.string, ClientIdentity(deviceID: device) != nil
        else { return nil }
        self.init(registration, hub: hub, deviceID: device, thumbprint: json["thumbprint"]?.string)
    }

    package init(_ registration: RegistrationName, hub: HostPort, deviceID: String, thumbprint: String?) {
        self.registration = registration
        self.hub = hub
        self.deviceID = deviceID
        self.thumbprint = thumbprint
    }

    /// As the file holds it: JSON.
    package var bytes: [UInt8] {
        var members = JSONObject()
        let facts = [
            ("endpoint", registration.endpoint.description), ("idScope", registration.scope), ("registrationId", registration.id),
            ("assignedHub", hub.description), ("deviceId", deviceID), ("thumbprint", thumbprint),
        ]
        for (name, value) in facts { members[name] = value.map { .string($0) } }
        return JSONValue.object(members).bytes() + [UInt8(ascii: "\n")]
    }

    /// Writes it so that a power cut leaves the old assignment or this one.
    func write(_ path: String) throws(SystemError) {
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex { try Files.makeDirectory(String(path[..<slash])) }
        try Files.replace(path, with: bytes, mode: 0o600)
    }
}
