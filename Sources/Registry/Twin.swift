import Bytes
import Wire

/// The twin of a device or a module (service-rest 9.1): what the service wants, what the device says, and what the device never sees.
///
/// Its record in the store, JSON:
///
///     {"etag":"AAAAAAAAAAE=","version":2,"modelId":"","tags":{…},
///      "properties":{"desired":{…,"$metadata":{…},"$version":1},"reported":{…,"$metadata":{…},"$version":1}},
///      "configurations":{"cfg":{"status":"Applied"}},"applied":[7]}
package struct Twin: Equatable, Sendable {
    /// Counts changes of tags and desired properties; the etag is made of it.
    private(set) var number: UInt64
    /// Counts the writes of all sections; 2 for a fresh twin.
    package private(set) var version: Int64
    package private(set) var tags: JSONObject
    package private(set) var desired: TwinSection
    package private(set) var reported: TwinSection
    /// The DTDL model that the device announced; empty when it never did.
    package internal(set) var modelID: String
    /// Which configurations are meant for it, as the service API shows them: `{"cfg":{"status":"Applied"}}` or `Targeted`.
    package internal(set) var configurations = JSONObject()
    /// The numbers of those whose content was written into desired properties, in the order of writing.
    package internal(set) var appliedConfigurations: [UInt64] = []

    /// Base64 of eight bytes, most significant first.
    package var etag: String { withUnsafeBytes(of: number.bigEndian) { Base64.encode($0) } }

    /// A new twin. Nulls in its first contents are left out.
    ///
    /// - Throws: `argumentInvalid` when the contents break a rule.
    package init(
        tags: JSONObject = JSONObject(), desired: JSONObject = JSONObject(), reported: JSONObject = JSONObject(), now: Timestamp
    ) throws(RegistryError) {
        (number, version, modelID) = (1, 2, "")
        let stamp = TwinStamp(now, version: nil)
        self.tags = try TwinRules.tags.merged(JSONObject(), tags)
        self.desired = try TwinSection(version: 0, stamp).merged(with: desired, TwinRules.desired, stamp)
        self.reported =
            reported.isEmpty
            ? TwinSection(version: 1, stamp) : try TwinSection(version: 0, stamp).merged(with: reported, TwinRules.reported, stamp)
    }

    /// Changes tags and desired properties as the service wants it.
    ///
    /// - Returns: what is to be told to a connected device, when desired properties were written; nil, too, when nothing was.
    /// - Throws: `argumentInvalid`; nothing was changed then.
    package mutating func apply(_ change: TwinChange, now: Timestamp) throws(RegistryError) -> DesiredNotice? {
        guard !change.isEmpty else { return nil }
        var changed = self
        switch change.tags {
        case .none: break
        case .merge(let patch): changed.tags = try TwinRules.tags.merged(tags, patch)
        case .clear: changed.tags = JSONObject()
        case .replace(let content): changed.tags = try TwinRules.tags.merged(JSONObject(), content)
        }
        let stamp = TwinStamp(now, version: desired.version &+ 1)
        var told: JSONObject?
        switch change.desired {
        case .none: break
        case .merge(let patch):
            changed.desired = try desired.merged(with: patch, TwinRules.desired, stamp)
            told = patch
        case .clear:
            changed.desired = try desired.replaced(by: JSONObject(), TwinRules.desired, stamp)
            told = desired.content.keys.reduce(into: JSONObject()) { $0[$1] = JSONValue.null }
        case .replace(let content):
            changed.desired = try desired.replaced(by: content, TwinRules.desired, stamp)
            told = changed.desired.content
        }
        changed.number = number &+ 1
        changed.version = version &+ 1
        self = changed
        return told.map { DesiredNotice(version: desired.version, members: $0) }
    }

    /// Merges into the reported properties as the device says.
    ///
    /// - Parameter expected: the section's version that the device goes by; another one is `preconditionFailed`.
    package mutating func report(_ patch: JSONObject, ifVersion expected: Int64?, now: Timestamp) throws(RegistryError) {
        if let expected, expected != reported.version { throw .preconditionFailed }
        reported = try reported.merged(with: TwinChange.bare(patch), TwinRules.reported, TwinStamp(now, version: nil))
        version = version &+ 1
    }
}

extension Twin {
    package var record: [UInt8] {
        var record: JSONValue = [
            "etag": .string(etag), "version": .integer(version), "modelId": .string(modelID), "tags": .object(tags),
            "properties": ["desired": .object(desired.members), "reported": .object(reported.members)],
        ]
        if !configurations.isEmpty { record["configurations"] = .object(configurations) }
        if !appliedConfigurations.isEmpty { record["applied"] = .array(appliedConfigurations.map { .integer(Int64(clamping: $0)) }) }
        return record.bytes()
    }

    /// Nil when the record is none.
    package init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let version = json["version"]?.integer,
            let etag = json["etag"]?.string.flatMap({ Base64.decode($0) }), etag.count == 8,
            let desired = json["properties"]?["desired"].flatMap({ TwinSection(record: $0) }),
            let reported = json["properties"]?["reported"].flatMap({ TwinSection(record: $0) })
        else { return nil }
        number = etag.reduce(0) { $0 << 8 | UInt64($1) }
        self.version = version
        tags = json["tags"]?.object ?? JSONObject()
        modelID = json["modelId"]?.string ?? ""
        (self.desired, self.reported) = (desired, reported)
        configurations = json["configurations"]?.object ?? JSONObject()
        appliedConfigurations = (json["applied"]?.array ?? []).compactMap { $0.integer.map { UInt64(clamping: $0) } }
    }

    /// What the device itself is shown (mqtt-device 12.1): both sections with their `$version`, and nothing else.
    package var deviceDocument: JSONValue {
        ["desired": .object(desired.shown), "reported": .object(reported.shown)]
    }
}

/// What a device is told of a change of its desired properties (mqtt-device 12.3).
package struct DesiredNotice: Equatable, Sendable {
    /// The section's `$version` after the change, for the topic.
    package let version: Int64
    /// The message: the patch with its nulls, or the new whole after a replacement, and `$version` in it.
    package let payload: [UInt8]

    init(version: Int64, members: JSONObject) {
        var members = members
        members["$version"] = .integer(version)
        self.version = version
        payload = JSONValue.object(members).bytes()
    }

    /// Eight bytes of version, most significant first, and the message.
    var record: [UInt8] { withUnsafeBytes(of: version.bigEndian) { Array($0) } + payload }

    init?(record: [UInt8]) {
        guard record.count > 8 else { return nil }
        version = record.span.bytes.bigEndian(at: 0, as: Int64.self)
        payload = Array(record[8...])
    }
}
