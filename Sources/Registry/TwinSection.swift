import Wire

/// When, and with which version of desired properties, something in a twin was written.
struct TwinStamp: Sendable {
    private let time: JSONValue
    private let version: JSONValue?

    /// - Parameter version: nil for reported properties, and for desired ones that are fresh.
    init(_ now: Timestamp, version: Int64?) {
        time = .string(now.description)
        self.version = version.map { .integer($0) }
    }

    /// The entry of `$metadata` for a leaf, or the head of one for an object.
    var entry: JSONObject {
        var entry = JSONObject()
        entry["$lastUpdated"] = time
        if let version { entry["$lastUpdatedVersion"] = version }
        return entry
    }
}

/// Desired or reported properties: their content, when each part of it was written, and how often (service-rest 9.1).
package struct TwinSection: Equatable, Sendable {
    package private(set) var content: JSONObject
    /// Mirrors the content; arrays are leaves. Every node has `$lastUpdated`.
    package private(set) var metadata: JSONObject
    /// `$version`: grows by 1 with each write.
    package private(set) var version: Int64

    /// Without content.
    init(version: Int64, _ stamp: TwinStamp) {
        content = JSONObject()
        metadata = stamp.entry
        self.version = version
    }

    /// The section after a patch (service-rest 9.3): null removes, objects merge, everything else replaces.
    func merged(with patch: JSONObject, _ rules: TwinRules, _ stamp: TwinStamp) throws(RegistryError) -> TwinSection {
        try rules.check(patch)
        var section = self
        (section.content, section.metadata) = Self.merge(content, metadata, patch, stamp)
        try rules.checkSize(section.content)
        section.version = version &+ 1
        return section
    }

    /// The section with another content.
    func replaced(by content: JSONObject, _ rules: TwinRules, _ stamp: TwinStamp) throws(RegistryError) -> TwinSection {
        try TwinSection(version: version, stamp).merged(with: content, rules, stamp)
    }

    /// Every node on the patch's way gets the stamp, also where the value stays what it was. Runs over both objects once.
    private static func merge(
        _ content: JSONObject, _ metadata: JSONObject, _ patch: JSONObject, _ stamp: TwinStamp
    ) -> (JSONObject, JSONObject) {
        var merged = JSONObject(), entries = stamp.entry
        for (key, value) in content {
            switch patch[key] {
            case nil:
                merged[key] = value
                entries[key] = metadata[key] ?? .object(stamp.entry)
            case .null?: break
            case .object(let members)?:
                let (inner, entry) = merge(
                    value.object ?? JSONObject(), value.object == nil ? JSONObject() : metadata[key]?.object ?? JSONObject(), members, stamp
                )
                merged[key] = .object(inner)
                entries[key] = .object(entry)
            case let leaf?:
                merged[key] = leaf
                entries[key] = .object(stamp.entry)
            }
        }
        for (key, value) in patch where !value.isNull && content[key] == nil {
            guard let members = value.object else {
                merged[key] = value
                entries[key] = .object(stamp.entry)
                continue
            }
            let (inner, entry) = merge(JSONObject(), JSONObject(), members, stamp)
            merged[key] = .object(inner)
            entries[key] = .object(entry)
        }
        return (merged, entries)
    }

    /// As a device sees it: with `$version`.
    var shown: JSONObject {
        var members = content
        members["$version"] = .integer(version)
        return members
    }

    /// As the service sees it, and the store keeps it: with `$metadata` and `$version`.
    package var members: JSONObject {
        var members = content
        members["$metadata"] = .object(metadata)
        members["$version"] = .integer(version)
        return members
    }

    init?(record: JSONValue) {
        guard let members = record.object, let version = members["$version"]?.integer else { return nil }
        content = TwinChange.bare(members)
        metadata = members["$metadata"]?.object ?? JSONObject()
        self.version = version
    }
}
