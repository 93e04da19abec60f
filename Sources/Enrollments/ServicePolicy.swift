import Bytes
import Wire

/// What a shared access policy of the service allows (dps 14.1).
package struct ServiceRights: OptionSet, Hashable, Sendable, CustomStringConvertible {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let serviceConfig = ServiceRights(rawValue: 1)
    package static let enrollmentRead = ServiceRights(rawValue: 2)
    package static let enrollmentWrite = ServiceRights(rawValue: 4)
    package static let registrationRead = ServiceRights(rawValue: 8)
    package static let registrationWrite = ServiceRights(rawValue: 16)
    package static let all = ServiceRights(rawValue: 31)

    private static let names = ["ServiceConfig", "EnrollmentRead", "EnrollmentWrite", "RegistrationStatusRead", "RegistrationStatusWrite"]

    /// Names with commas or white space between them, in any case; who may write may read.
    package init(parsing text: String) throws(EnrollmentError) {
        var rights: ServiceRights = []
        for word in text.split(whereSeparator: { $0 == "," || $0 == " " || $0 == ";" }) {
            guard let place = Self.names.firstIndex(where: { ASCII.equalIgnoringCase($0, String(word)) }) else {
                throw .invalid("the rights are \(Self.names.joined(separator: ", "))")
            }
            rights.insert(ServiceRights(rawValue: 1 << UInt8(place)))
        }
        guard !rights.isEmpty else { throw .invalid("a policy needs a right") }
        if rights.contains(.enrollmentWrite) { rights.insert(.enrollmentRead) }
        if rights.contains(.registrationWrite) { rights.insert(.registrationRead) }
        self = rights
    }

    package var description: String {
        Self.names.indices.filter { rawValue >> $0 & 1 == 1 }.map { Self.names[$0] }.joined(separator: ", ")
    }
}

/// A shared access policy of the service: a name, rights, and two keys of equal power.
package struct ServicePolicy: Sendable, Equatable {
    package let name: String
    package let rights: ServiceRights
    package let primaryKey, secondaryKey: SymmetricKey

    /// `{"keyName":…,"primaryKey":…,"secondaryKey":…,"rights":"EnrollmentRead, …"}`. Contains the keys.
    package var json: JSONValue {
        [
            "keyName": .string(name), "primaryKey": .string(primaryKey.base64), "secondaryKey": .string(secondaryKey.base64),
            "rights": .string(rights.description),
        ]
    }

    init(name: String, rights: ServiceRights, primaryKey: SymmetricKey? = nil, secondaryKey: SymmetricKey? = nil) throws(EnrollmentError) {
        guard let primary = primaryKey ?? .random(), let secondary = secondaryKey ?? .random() else { throw .noEntropy }
        self.name = name
        self.rights = rights
        (self.primaryKey, self.secondaryKey) = (primary, secondary)
    }

    /// Reads a document; rights and keys that are missing are those of the policy in whose place it is put, else keys are made.
    init(json: JSONValue, name: String, existing: ServicePolicy? = nil) throws(EnrollmentError) {
        guard Identifier.isValidPolicyName(name) else {
            throw .invalid("a policy's name has 1 to 64 letters, digits, hyphens, dots and underscores")
        }
        func key(_ member: String) throws(EnrollmentError) -> SymmetricKey? {
            try json.member(member, as: "Base64 of 16 to 64 bytes") { $0.string.flatMap { SymmetricKey(base64: $0) } }
        }
        let (primary, secondary) = (try key("primaryKey"), try key("secondaryKey"))
        try self.init(
            name: name, rights: try ServiceRights(parsing: try json.text("rights") ?? existing?.rights.description ?? ""),
            primaryKey: primary ?? existing?.primaryKey, secondaryKey: secondary ?? existing?.secondaryKey)
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let name = json["keyName"]?.string,
            let policy = try? ServicePolicy(json: json, name: name)
        else { return nil }
        self = policy
    }
}
