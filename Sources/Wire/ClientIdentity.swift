/// Who is meant: a device, or a module of one (mqtt-device 1).
package struct ClientIdentity: Hashable, Sendable, CustomStringConvertible {
    package let deviceID: String
    package let moduleID: String?

    /// Nil when an id breaks the rule of `Identifier.isValidID`.
    package init?(deviceID: String, moduleID: String? = nil) {
        guard Identifier.isValidID(deviceID), moduleID.map({ Identifier.isValidID($0) }) ?? true else { return nil }
        self.deviceID = deviceID
        self.moduleID = moduleID
    }

    /// The identity behind an MQTT client id: `{deviceId}` or `{deviceId}/{moduleId}`, neither percent-encoded.
    package init?(clientID: String) {
        let parts = clientID.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        self.init(deviceID: String(parts[0]), moduleID: parts.count > 1 ? String(parts[1]) : nil)
    }

    /// `{deviceId}` or `{deviceId}/{moduleId}`.
    package var clientID: String { moduleID.map { "\(deviceID)/\($0)" } ?? deviceID }

    /// `devices/{deviceId}` or `devices/{deviceId}/modules/{moduleId}`: in topics, and behind the host in what a token names.
    package var path: String { moduleID.map { "devices/\(deviceID)/modules/\($0)" } ?? "devices/\(deviceID)" }

    package var description: String { clientID }
}
