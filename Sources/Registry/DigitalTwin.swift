import Wire

/// A twin as plug and play sees it (service-rest 16): properties by the names of the device's model, and components, which are objects
/// with `"__t":"c"` in desired or reported properties.
package struct DigitalTwin: Sendable {
    private let twin: Twin
    private let id: String

    package init(_ document: TwinDocument) { self.init(document.twin, id: document.identity.name.deviceID) }

    /// - Parameter id: the device's.
    package init(_ twin: Twin, id: String) {
        self.twin = twin
        self.id = id
    }

    /// The digital twin's document.
    package var json: JSONValue {
        let (members, about) = Self.properties(
            Part(twin.reported.content, twin.reported.metadata), Part(twin.desired.content, twin.desired.metadata))
        var metadata = JSONObject()
        metadata["$model"] = .string(twin.modelID)
        for (key, value) in about { metadata[key] = value }
        var document = JSONObject()
        document["$dtId"] = .string(id)
        for (key, value) in members { document[key] = value }
        document["$metadata"] = .object(metadata)
        return .object(document)
    }

    /// An object of a section with its metadata.
    private struct Part {
        var content, metadata: JSONObject

        init(_ content: JSONObject, _ metadata: JSONObject) {
            self.content = content
            self.metadata = metadata
        }

        func inner(_ key: String) -> Part {
            Part(content[key]?.object ?? JSONObject(), metadata[key]?.object ?? JSONObject())
        }

        func updated(_ key: String) -> JSONValue? { metadata[key]?["$lastUpdated"] }
    }

    private static func isComponent(_ value: JSONValue?) -> Bool { value?["__t"]?.string == "c" }

    /// Members and metadata of the root or of a component.
    private static func properties(_ reported: Part, _ desired: Part, isRoot: Bool = true) -> (JSONObject, JSONObject) {
        var members = JSONObject(), metadata = JSONObject()
        let added = desired.content.keys.filter { reported.content[$0] == nil }
        for key in reported.content.keys + added where key != "__t" {
            let (said, wanted) = (reported.content[key], desired.content[key])
            if isRoot, isComponent(said) || isComponent(wanted) {
                var (inner, about) = properties(reported.inner(key), desired.inner(key), isRoot: false)
                if let time = reported.updated(key) ?? desired.updated(key) { about["lastUpdateTime"] = time }
                inner["$metadata"] = .object(about)
                members[key] = .object(inner)
                continue
            }
            var entry = JSONObject()
            if let wanted {
                entry["desiredValue"] = wanted
                entry["desiredVersion"] = desired.metadata[key]?["$lastUpdatedVersion"] ?? 1
            }
            if let said {
                // An acknowledgement of what was desired: value, code, version, description.
                if let value = said["value"], let code = said["ac"] {
                    members[key] = value
                    entry["ackCode"] = code
                    entry["ackVersion"] = said["av"]
                    entry["ackDescription"] = said["ad"]
                } else {
                    members[key] = said
                }
            }
            entry["lastUpdateTime"] = reported.updated(key) ?? desired.updated(key)
            metadata[key] = .object(entry)
        }
        return (members, metadata)
    }

    // MARK: - Patches

    /// What a JSON patch (RFC 6902) of a digital twin asks of the twin: `add`, `replace` and `remove` of `/property`, `/component`
    /// and `/component/property`.
    ///
    /// - Throws: `argumentInvalid` for everything else.
    package func change(_ patch: JSONValue) throws(RegistryError) -> TwinChange {
        guard let steps = patch.array, !steps.isEmpty, steps.count <= 100 else {
            throw .argumentInvalid("the body is not an array of 1 to 100 operations")
        }
        var desired = JSONObject()
        for step in steps {
            guard let operation = step["op"]?.string, let path = step["path"]?.string else {
                throw .argumentInvalid("an operation has no op or no path")
            }
            let keys = try Self.keys(path)
            let value: JSONValue
            switch operation {
            case "remove": value = .null
            case "add", "replace":
                guard let given = step["value"], !given.isNull else { throw .argumentInvalid("an operation has no value") }
                value = given
            default: throw .argumentInvalid("op is neither add nor replace nor remove")
            }
            desired = ConfigurationContent.overlaid(desired, with: try branch(keys, value))
        }
        return TwinChange(desired: .merge(desired))
    }

    /// A path of one or two names (RFC 6901).
    private static func keys(_ path: String) throws(RegistryError) -> [String] {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.first == "", (2...3).contains(parts.count), !parts.dropFirst().contains("") else {
            throw .argumentInvalid("a path is /property, /component or /component/property")
        }
        var keys: [String] = []
        for part in parts.dropFirst() {
            var text = "", isEscaped = false
            for letter in part {
                switch (isEscaped, letter) {
                case (false, "~"): isEscaped = true
                case (false, _): text.append(letter)
                case (true, "0"), (true, "1"):
                    text.append(letter == "0" ? "~" : "/")
                    isEscaped = false
                default: throw .argumentInvalid("a path has ~ without 0 or 1 behind it")
                }
            }
            guard !isEscaped, !text.hasPrefix("$"), text != "__t" else { throw .argumentInvalid("a path names what belongs to the hub") }
            keys.append(text)
        }
        return keys
    }

    private func branch(_ keys: [String], _ value: JSONValue) throws(RegistryError) -> JSONObject {
        var branch = JSONObject()
        if keys.count == 2 {
            var inner = JSONObject()
            // A member of a property that is an object is none of a component.
            let isPlain = [twin.desired.content[keys[0]], twin.reported.content[keys[0]]].contains { $0 != nil && !Self.isComponent($0) }
            if !isPlain, !value.isNull { inner["__t"] = "c" }
            inner[keys[1]] = value
            branch[keys[0]] = .object(inner)
        } else if var members = value.object, members["$metadata"] != nil {
            members["$metadata"] = nil
            members["__t"] = "c"
            branch[keys[0]] = .object(members)
        } else {
            branch[keys[0]] = value
        }
        return branch
    }

    /// The method that stands for a command: of a component, `component*command`.
    package static func method(component: String?, command: String) -> String { component.map { "\($0)*\(command)" } ?? command }
}
