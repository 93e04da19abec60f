import Bytes
import Wire

/// What a service wants of a twin (service-rest 9.2): of its tags, and of its desired properties.
package struct TwinChange: Equatable, Sendable {
    /// What becomes of one section; nil, where it is optional, leaves it alone.
    package enum Part: Equatable, Sendable {
        case merge(JSONObject)
        case clear
        case replace(JSONObject)
    }

    package var tags, desired: Part?

    package init(tags: Part? = nil, desired: Part? = nil) {
        self.tags = tags
        self.desired = desired
    }

    var isEmpty: Bool { tags == nil && desired == nil }

    /// The body of a PATCH. Everything but `tags` and `properties.desired` is passed over, and the hub's own members in those.
    /// Null empties a section.
    package init(patch json: JSONValue) throws(RegistryError) {
        let (tags, desired) = try Self.sections(json)
        try self.init(tags: Self.part(tags, "tags"), desired: Self.part(desired, "properties.desired"))
    }

    /// The body of a PUT: both sections become what it says, and a section that it does not name becomes empty.
    package init(replacement json: JSONValue) throws(RegistryError) {
        let (tags, desired) = try Self.sections(json)
        try self.init(tags: Self.whole(tags, "tags"), desired: Self.whole(desired, "properties.desired"))
    }

    private static func whole(_ value: JSONValue?, _ name: String) throws(RegistryError) -> Part {
        if case .merge(let content)? = try part(value, name) { .replace(content) } else { .replace(JSONObject()) }
    }

    private static func sections(_ json: JSONValue) throws(RegistryError) -> (JSONValue?, JSONValue?) {
        guard json.object != nil else { throw .argumentInvalid("the body is not an object") }
        guard let properties = json["properties"], !properties.isNull else { return (json["tags"], nil) }
        guard properties.object != nil else { throw .argumentInvalid("properties is not an object") }
        return (json["tags"], properties["desired"])
    }

    private static func part(_ value: JSONValue?, _ name: String) throws(RegistryError) -> Part? {
        switch value {
        case nil: return nil
        case .null?: return .clear
        case .object(let members)?: return .merge(bare(members))
        default: throw .argumentInvalid("\(name) is not an object")
        }
    }

    /// Without the members that belong to the hub.
    static func bare(_ members: JSONObject) -> JSONObject {
        guard members["$metadata"] != nil || members["$version"] != nil else { return members }
        var members = members
        members["$metadata"] = nil
        members["$version"] = nil
        return members
    }

    /// A device's patch of its reported properties, as it came by the wire (mqtt-device 12.2).
    ///
    /// - Throws: `argumentInvalid` when it is no JSON, or no object.
    package static func reported(payload: RawSpan) throws(RegistryError) -> JSONObject {
        let json: JSONValue
        do { json = try JSONValue.parse(payload, depth: 40, limit: 1 << 20) } catch { throw .argumentInvalid("\(error)") }
        guard let patch = json.object else { throw .argumentInvalid("the patch is not an object") }
        return patch
    }
}
