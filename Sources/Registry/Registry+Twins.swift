import Store
import Wire

// The twin of an identity lives and dies with it. Its record, JSON:
//
//     {"etag":"AAAAAAAAAAE=","version":2,"tags":{…},
//      "properties":{"desired":{…,"$metadata":{…},"$version":1},"reported":{"$metadata":{…},"$version":1}}}

extension Registry {
    static func createTwin(
        _ name: ClientIdentity, tags: JSONObject?, desired: JSONObject?, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        let record: JSONValue = [
            "etag": .string(twinETag(1)), "version": 2, "tags": .object(merge(JSONObject(), tags ?? JSONObject())),
            "properties": [
                "desired": section(merge(JSONObject(), bare(desired ?? JSONObject())), version: 1, now: now),
                "reported": section(JSONObject(), version: 1, now: now),
            ],
        ]
        try stored { () throws(StoreError) in try transaction.put(.twins, name.key, record.bytes()) }
    }

    static func twin(_ name: ClientIdentity, in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> JSONValue {
        let bytes = try stored { () throws(StoreError) in try transaction.get(.twins, name.key) }
        guard let bytes, let record = try? JSONValue.parse(bytes) else {
            throw .store(.damaged(path: "registry", reason: "a twin's record"))
        }
        return record
    }

    /// Merges into tags and desired properties (service-rest 9.3).
    static func updateTwin(
        _ name: ClientIdentity, tags: JSONObject?, desired: JSONObject?, _ condition: IfMatch,
        in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        _ = try require(name, in: transaction)
        var record = try twin(name, in: transaction)
        try condition.check(record["etag"]?.string ?? "")
        var aspects: Change.Aspects = []
        if let tags {
            record["tags"] = .object(merge(record["tags"]?.object ?? JSONObject(), tags))
            aspects.insert(.tags)
        }
        if let desired {
            let old = record["properties"]?["desired"]
            let merged = merge(bare(old?.object ?? JSONObject()), bare(desired))
            record["properties"]?["desired"] = section(merged, version: (old?["$version"]?.integer ?? 1) &+ 1, now: now)
            aspects.insert(.desired)
        }
        guard !aspects.isEmpty else { return }
        let number = record["etag"]?.string.flatMap { Base64.decode($0) }.map { $0.reduce(UInt64(0)) { $0 << 8 | UInt64($1) } } ?? 1
        record["etag"] = .string(twinETag(number &+ 1))
        record["version"] = .integer((record["version"]?.integer ?? 2) &+ 1)
        try stored { () throws(StoreError) in
            try transaction.put(.twins, name.key, record.bytes())
            try transaction.log(Change(.twinUpdated, device: name.deviceID, module: name.moduleID ?? "", aspects: aspects))
        }
    }

    /// Base64 of eight bytes, most significant first.
    private static func twinETag(_ number: UInt64) -> String {
        withUnsafeBytes(of: number.bigEndian) { Base64.encode($0) }
    }

    /// Without the members that belong to the hub.
    static func bare(_ object: JSONObject) -> JSONObject {
        var object = object
        object["$metadata"] = nil
        object["$version"] = nil
        return object
    }

    private static func merge(_ current: JSONObject, _ patch: JSONObject) -> JSONObject {
        var result = current
        for (key, value) in patch {
            switch value {
            case .null: result[key] = nil
            case .object(let members): result[key] = .object(merge(result[key]?.object ?? JSONObject(), members))
            default: result[key] = value
            }
        }
        return result
    }

    private static func section(_ content: JSONObject, version: Int64, now: Timestamp) -> JSONValue {
        var section = content
        section["$metadata"] = metadata(.object(content), now: now)
        section["$version"] = .integer(version)
        return .object(section)
    }

    private static func metadata(_ value: JSONValue, now: Timestamp) -> JSONValue {
        var entry = JSONObject()
        entry["$lastUpdated"] = .string(now.description)
        for (key, member) in value.object ?? JSONObject() { entry[key] = metadata(member, now: now) }
        return .object(entry)
    }
}
