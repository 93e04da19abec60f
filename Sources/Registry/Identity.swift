import Bytes
import Wire

/// A device or a module as the registry keeps it (service-rest 5.1 and 6).
package struct Identity: Equatable, Sendable {
    package enum Status: String, Sendable { case enabled, disabled }

    package let name: ClientIdentity
    /// Digits; new for every creation, and constant after it.
    package let generationID: String
    package internal(set) var etag: String
    /// A module's own is always enabled; its device's counts.
    package internal(set) var status: Status
    package internal(set) var statusReason: String?
    package internal(set) var statusUpdatedTime: Timestamp
    package internal(set) var authentication: Authentication
    package internal(set) var isEdge: Bool
    /// A module's: `iotEdge`, free text or nothing.
    package internal(set) var managedBy: String?
    package internal(set) var deviceScope: String?
    package internal(set) var parentScopes: [String]

    package var isEnabled: Bool { status == .enabled }
}

/// What only the running hub knows about an identity.
package struct LiveState: Equatable, Sendable {
    package var isConnected = false
    package var connectionStateUpdatedTime = Timestamp.never
    package var lastActivityTime = Timestamp.never
    package var cloudToDeviceMessageCount = 0

    package init() {}
}

extension Identity {
    /// The document of the service API. Contains the keys.
    package func document(live: LiveState = LiveState()) -> JSONValue {
        var document = JSONObject()
        document["deviceId"] = .string(name.deviceID)
        if let module = name.moduleID { document["moduleId"] = .string(module) }
        document["generationId"] = .string(generationID)
        document["etag"] = .string(etag)
        document["connectionState"] = live.isConnected ? "Connected" : "Disconnected"
        if name.moduleID == nil {
            document["status"] = .string(status.rawValue)
            document["statusReason"] = statusReason.map { .string($0) } ?? .null
        }
        document["connectionStateUpdatedTime"] = .string(live.connectionStateUpdatedTime.description)
        if name.moduleID == nil { document["statusUpdatedTime"] = .string(statusUpdatedTime.description) }
        document["lastActivityTime"] = .string(live.lastActivityTime.description)
        document["cloudToDeviceMessageCount"] = .integer(Int64(live.cloudToDeviceMessageCount))
        document["authentication"] = authentication.json
        if name.moduleID == nil {
            document["capabilities"] = ["iotEdge": .bool(isEdge)]
            document["deviceScope"] = deviceScope.map { .string($0) } ?? .null
            document["parentScopes"] = .array(parentScopes.map { .string($0) })
        } else {
            document["managedBy"] = managedBy.map { .string($0) } ?? .null
        }
        return .object(document)
    }

    /// The record in the store: the document without what only a running hub knows.
    func record() -> [UInt8] {
        var document = document()
        for live in ["connectionState", "connectionStateUpdatedTime", "lastActivityTime", "cloudToDeviceMessageCount"] {
            document[live] = nil
        }
        return document.bytes()
    }

    /// Nil when the record is none.
    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let device = json["deviceId"]?.string,
            let name = ClientIdentity(deviceID: device, moduleID: json["moduleId"]?.string),
            let generation = json["generationId"]?.string, let etag = json["etag"]?.string,
            let authentication = json["authentication"].flatMap({ Authentication(record: $0) })
        else { return nil }
        self.name = name
        generationID = generation
        self.etag = etag
        status = json["status"]?.string.flatMap { Status(rawValue: $0) } ?? .enabled
        statusReason = json["statusReason"]?.string
        statusUpdatedTime = json["statusUpdatedTime"]?.string.flatMap { Timestamp(parsing: $0) } ?? .never
        self.authentication = authentication
        isEdge = json["capabilities"]?["iotEdge"]?.bool ?? false
        managedBy = json["managedBy"]?.string
        deviceScope = json["deviceScope"]?.string
        parentScopes = json["parentScopes"]?.array?.compactMap(\.string) ?? []
    }
}

extension Authentication {
    init?(record json: JSONValue) {
        switch json["type"]?.string {
        case "sas":
            guard let primary = json["symmetricKey"]?["primaryKey"]?.string.flatMap({ SymmetricKey(base64: $0) }),
                let secondary = json["symmetricKey"]?["secondaryKey"]?.string.flatMap({ SymmetricKey(base64: $0) })
            else { return nil }
            self = .sas(primary: primary, secondary: secondary)
        case "selfSigned":
            let thumbprints = json["x509Thumbprint"]
            self = .selfSigned(
                primary: thumbprints?["primaryThumbprint"]?.string, secondary: thumbprints?["secondaryThumbprint"]?.string)
        case "certificateAuthority": self = .certificateAuthority
        case "none": self = .none
        default: return nil
        }
    }
}

/// What a writer wants an identity to be. The members that it does not name get their defaults (service-rest 5.2).
package struct IdentityRequest: Equatable, Sendable {
    package var status = Identity.Status.enabled
    package var statusReason: String?
    /// Nil: new keys.
    package var authentication: AuthenticationRequest?
    package var isEdge = false
    package var managedBy: String?
    /// A scope text, `ms-azure-iot-edge://{device}-{generation}`.
    package var deviceScope: String?
    package var parentScopes: [String] = []
    /// The parent by its id, instead of its scope.
    package var parent: String?
    /// First contents of the twin (bulk and import only): objects.
    package var tags: JSONObject?
    package var desired: JSONObject?
    /// What a device that comes from another hub has reported there.
    package var reported: JSONObject?

    package init() {}

    /// Reads the body of a PUT. Unknown members are tolerated; names in the body must be those of the path.
    package init(json: JSONValue, for name: ClientIdentity) throws(RegistryError) {
        guard json.object != nil else { throw .argumentInvalid("the body is not an object") }
        if let device = try json.optionalText("deviceId"), device != name.deviceID {
            throw .argumentInvalid("deviceId differs from the path")
        }
        if let module = try json.optionalText("moduleId"), module != name.moduleID ?? "" {
            throw .argumentInvalid("moduleId differs from the path")
        }
        try self.init(members: json)
    }

    /// The members that a PUT and a line of bulk or import have in common.
    init(members json: JSONValue) throws(RegistryError) {
        if let text = try json.optionalText("status") {
            guard let status = Identity.Status(rawValue: text.lowercased()) else {
                throw .argumentInvalid("status is neither enabled nor disabled")
            }
            self.status = status
        }
        statusReason = try json.optionalText("statusReason")
        if let authentication = json["authentication"], !authentication.isNull {
            self.authentication = try AuthenticationRequest(json: authentication)
        }
        if let capabilities = json["capabilities"], !capabilities.isNull {
            isEdge = try capabilities.optionalBool("iotEdge") ?? false
        }
        managedBy = try json.optionalText("managedBy")
        deviceScope = try json.optionalText("deviceScope").flatMap { $0.isEmpty ? nil : $0 }
        switch json["parentScopes"] {
        case nil, .null?: break
        case .array(let scopes)?:
            for scope in scopes {
                guard let scope = scope.string else { throw .argumentInvalid("parentScopes is not an array of strings") }
                parentScopes.append(scope)
            }
        default: throw .argumentInvalid("parentScopes is not an array of strings")
        }
    }
}
