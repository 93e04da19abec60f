import Query
import Wire

/// A twin with the identity that it belongs to: what the service API shows (service-rest 9.1).
package struct TwinDocument: Equatable, Sendable, QueryDocument {
    package let identity: Identity
    /// For a module: its device, whose status is its own. For a device: itself.
    package let device: Identity
    package let twin: Twin

    /// - Parameter live: nil where no running hub is asked: what only it knows is left out.
    package func json(live: LiveState?) -> JSONValue {
        let name = identity.name
        var document = JSONObject()
        document["deviceId"] = .string(name.deviceID)
        if let module = name.moduleID { document["moduleId"] = .string(module) }
        for member in Self.members where member != "deviceId" && member != "moduleId" {
            document[member] = Self.member(member, identity: identity, device: device, twin: twin, live: live)
        }
        return .object(document)
    }

    /// For conditions: one member, without what only a running hub knows.
    package func member(_ root: String) -> JSONValue? {
        switch root {
        case "deviceId": .string(identity.name.deviceID)
        case "moduleId": identity.name.moduleID.map { .string($0) }
        default: Self.member(root, identity: identity, device: device, twin: twin, live: nil)
        }
    }

    private static let members = [
        "etag", "deviceEtag", "status", "statusReason", "statusUpdateTime", "connectionState", "lastActivityTime",
        "cloudToDeviceMessageCount", "authenticationType", "x509Thumbprint", "modelId", "version", "tags", "properties", "capabilities",
        "deviceScope", "parentScopes", "configurations",
    ]

    /// Members that come from the identity's record, from the twin's, and from a running hub.
    static let identityMembers: Set = [
        "deviceEtag", "status", "statusReason", "statusUpdateTime", "authenticationType", "x509Thumbprint", "capabilities", "deviceScope",
        "parentScopes",
    ]
    static let twinMembers: Set = ["etag", "modelId", "version", "tags", "properties", "configurations"]

    /// One member of the document; nil where it is left out, or where what it comes from is not at hand.
    static func member(_ member: String, identity: Identity?, device: Identity?, twin: Twin?, live: LiveState?) -> JSONValue? {
        switch member {
        case "etag": twin.map { .string($0.etag) }
        case "modelId": twin.map { .string($0.modelID) }
        case "version": twin.map { .integer($0.version) }
        case "tags": twin.flatMap { $0.tags.isEmpty ? nil : .object($0.tags) }
        case "configurations": twin.flatMap { $0.configurations.isEmpty ? nil : .object($0.configurations) }
        case "properties":
            twin.map { ["desired": .object($0.desired.members), "reported": .object($0.reported.members)] }
        case "deviceEtag": identity.map { .string($0.etag) }
        case "status": device.map { .string($0.status.rawValue) }
        case "statusReason": device?.statusReason.map { .string($0) }
        case "statusUpdateTime": device.map { .string($0.statusUpdatedTime.description) }
        case "authenticationType": identity.map { .string($0.authentication.type) }
        case "x509Thumbprint": identity?.authentication.json["x509Thumbprint"]
        case "capabilities": identity.flatMap { $0.name.moduleID == nil ? ["iotEdge": .bool($0.isEdge)] : nil }
        case "deviceScope": identity?.deviceScope.map { .string($0) }
        case "parentScopes":
            identity.flatMap { $0.parentScopes.isEmpty ? nil : .array($0.parentScopes.map { .string($0) }) }
        case "connectionState": live.map { $0.isConnected ? "Connected" : "Disconnected" }
        case "lastActivityTime": live.map { .string($0.lastActivityTime.description) }
        case "cloudToDeviceMessageCount": live.map { .integer(Int64($0.cloudToDeviceMessageCount)) }
        default: nil
        }
    }
}
