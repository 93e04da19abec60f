import Wire

/// What becomes of a device that registers again (dps 10.3).
package struct ReprovisionPolicy: Equatable, Sendable {
    /// The allocation is decided anew.
    package var updatesHub = true
    /// What the twin has goes along to another hub; else it begins with the enrollment's initial twin.
    package var migratesData = true

    package init() {}

    init(json: JSONValue) throws(EnrollmentError) {
        updatesHub = try json.flag("updateHubAssignment") ?? true
        migratesData = try json.flag("migrateDeviceData") ?? true
    }

    var json: JSONValue { ["updateHubAssignment": .bool(updatesHub), "migrateDeviceData": .bool(migratesData)] }
}

/// How a hub is chosen (dps 10.1).
package enum AllocationPolicy: String, Sendable, CaseIterable {
    case hashed, geoLatency, `static`, custom

    package init(parsing text: String) throws(EnrollmentError) {
        guard let known = Self.allCases.first(where: { ASCII.equalIgnoringCase($0.rawValue, text) }) else {
            throw .invalid("allocationPolicy is one of \(Self.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        self = known
    }
}

/// Whom to ask for a hub (dps 10.5).
package struct Webhook: Equatable, Sendable {
    package var url: String
    package var apiVersion: String

    init(json: JSONValue) throws(EnrollmentError) {
        guard let url = try json.text("webhookUrl"), url.hasPrefix("https://") || url.hasPrefix("http://"), url.utf8.count <= 2048,
            url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else { throw .invalid("customAllocationDefinition.webhookUrl is an https URL") }
        self.url = url
        apiVersion = try json.text("apiVersion") ?? "2018-11-01"
    }

    var json: JSONValue { ["webhookUrl": .string(url), "apiVersion": .string(apiVersion)] }
}
