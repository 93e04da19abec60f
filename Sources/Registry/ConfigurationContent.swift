import Wire

/// What a configuration writes into twins (service-rest 13): one of the three forms.
package struct ConfigurationContent: Equatable, Sendable {
    /// Whose twins are meant.
    package enum Target: String, Sendable {
        /// `deviceContent`: devices; `moduleContent`: modules; `modulesContent`: the modules of Edge devices.
        case devices = "deviceContent"
        case modules = "moduleContent"
        case edgeModules = "modulesContent"
    }

    package let target: Target
    /// As it was given.
    let json: JSONValue
    /// Desired properties, by module for `edgeModules`, else under the empty name.
    package let desired: [String: JSONObject]
    /// An Edge deployment that only adds to another.
    let isLayered: Bool

    /// The agent of an Edge device, in whose twin it stands which deployments are meant for the device.
    static let agent = "$edgeAgent"
    private static let prefix = "properties.desired"

    /// Reads the member `content`.
    ///
    /// - Throws: `argumentInvalid`, also when there is not exactly one form, or the twins' rules forbid a value.
    package init(json: JSONValue) throws(RegistryError) {
        guard json.object != nil else { throw .argumentInvalid("content is not an object") }
        let forms = [Target.devices, .modules, .edgeModules].filter { json[$0.rawValue].map { !$0.isNull } ?? false }
        guard forms.count == 1, let target = forms.first, let members = json[target.rawValue]?.object else {
            throw .argumentInvalid("content has exactly one of deviceContent, moduleContent and modulesContent, an object")
        }
        guard !members.isEmpty else { throw .argumentInvalid("\(target.rawValue) is empty") }
        self.target = target
        self.json = .object(of: [target.rawValue: .object(members)])
        guard target == .edgeModules else {
            desired = ["": try Self.desired(members, target.rawValue)]
            isLayered = false
            return
        }
        var trees: [String: JSONObject] = [:]
        for (module, content) in members { trees[module] = try Self.desired(ofModule: module, content) }
        desired = trees
        isLayered = members[Self.agent]?.object.map { $0[Self.prefix] == nil } ?? true
    }

    static func desired(ofModule module: String, _ content: JSONValue) throws(RegistryError) -> JSONObject {
        guard Identifier.isValidID(module) else { throw .argumentInvalid("modulesContent: a name can be no module's") }
        guard let content = content.object else { throw .argumentInvalid("modulesContent.\(module) is not an object") }
        return try Self.desired(content, "modulesContent.\(module)")
    }

    /// The properties that paths `properties.desired.a.b` and their values make.
    static func desired(_ content: JSONObject, _ place: String) throws(RegistryError) -> JSONObject {
        var tree = JSONObject()
        for (path, value) in content {
            guard path == prefix || path.hasPrefix("\(prefix).") else {
                throw .argumentInvalid("\(place): a path does not begin with \(prefix)")
            }
            let keys = path.dropFirst(prefix.utf8.count).split(separator: ".", omittingEmptySubsequences: false).dropFirst()
            guard keys.count <= 16 else { throw .argumentInvalid("\(place): a path is too long") }
            var branch = value
            for key in keys.reversed() {
                var parent = JSONObject()
                parent[String(key)] = branch
                branch = .object(parent)
            }
            guard let members = branch.object else { throw .argumentInvalid("\(place).\(prefix) is not an object") }
            tree = overlaid(tree, with: TwinChange.bare(members))
        }
        try TwinRules.desired.check(tree)
        try TwinRules.desired.checkSize(tree)
        return tree
    }

    /// The path that a content of a whole section has.
    static func isWhole(_ content: JSONValue?) -> Bool { content?[prefix] != nil }

    // MARK: - Patches

    /// Objects are merged, everything else, null too, replaces.
    static func overlaid(_ base: JSONObject, with over: JSONObject) -> JSONObject {
        var merged = base
        for (key, value) in over {
            if let inner = merged[key]?.object, let members = value.object {
                merged[key] = .object(overlaid(inner, with: members))
            } else {
                merged[key] = value
            }
        }
        return merged
    }

    /// The patch after which what one content wrote is gone, but for what another writes in its place. An object that would be left
    /// empty goes too; what others have added to it stays.
    package static func removal(of old: JSONObject, butNot new: JSONObject, from current: JSONObject) -> JSONObject {
        var patch = JSONObject()
        for (key, value) in old {
            guard let found = current[key] else { continue }
            let successor = new[key]
            guard let inner = value.object, let members = found.object else {
                if successor == nil { patch[key] = .null }
                continue
            }
            if let successor, successor.object == nil { continue }
            let removed = removal(of: inner, butNot: successor?.object ?? JSONObject(), from: members)
            let isEmptied = members.allSatisfy { removed[$0.key]?.isNull == true }
            if successor == nil, isEmptied {
                patch[key] = .null
            } else if !removed.isEmpty {
                patch[key] = .object(removed)
            }
        }
        return patch
    }
}
