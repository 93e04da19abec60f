import Wire

/// What may stand in a section of a twin (service-rest 9.4); every breach is `argumentInvalid`.
package struct TwinRules: Sendable {
    /// For messages: `tags`, `desired`, `reported`.
    let name: String
    /// As `size` counts, in bytes.
    let mostBytes: Int

    package static let tags = TwinRules(name: "tags", mostBytes: 8 << 10)
    package static let desired = TwinRules(name: "desired", mostBytes: 32 << 10)
    package static let reported = TwinRules(name: "reported", mostBytes: 32 << 10)

    /// Objects and arrays within each other, below the section.
    static let mostLevels = 10
    static let longestKeyBytes = 1024
    static let longestTextBytes = 4096
    static let integers: ClosedRange<Int64> = -4_503_599_627_370_496...4_503_599_627_370_495

    /// Merges two plain objects after a check of the patch, then checks the size.
    func merged(_ content: JSONObject, _ patch: JSONObject) throws(RegistryError) -> JSONObject {
        try check(patch)
        let merged = Self.merge(content, patch)
        try checkSize(merged)
        return merged
    }

    private static func merge(_ content: JSONObject, _ patch: JSONObject) -> JSONObject {
        var merged = JSONObject()
        for (key, value) in content {
            switch patch[key] {
            case nil: merged[key] = value
            case .null?: break
            case .object(let members)?: merged[key] = .object(merge(value.object ?? JSONObject(), members))
            case let leaf?: merged[key] = leaf
            }
        }
        for (key, value) in patch where !value.isNull && content[key] == nil {
            merged[key] = value.object.map { .object(merge(JSONObject(), $0)) } ?? value
        }
        return merged
    }

    // MARK: - Keys and values

    /// Looks at every key and value of a patch; nulls remove, so they are good anywhere but in arrays.
    func check(_ patch: JSONObject) throws(RegistryError) {
        try check(members: patch, path: name, level: 0, isInArray: false)
    }

    private func check(members: JSONObject, path: String, level: Int, isInArray: Bool) throws(RegistryError) {
        for (key, value) in members {
            if let fault = Self.fault(ofKey: key) { throw .argumentInvalid("\(path): a key \(fault)") }
            if case .null = value, !isInArray { continue }
            try check(value, path: path, key: key, level: level, isInArray: isInArray)
        }
    }

    private func check(_ value: JSONValue, path: String, key: String, level: Int, isInArray: Bool) throws(RegistryError) {
        var here: String { "\(path).\(key.prefix(64))" }
        switch value {
        case .bool: break
        case .null: throw .argumentInvalid("\(here): null cannot stand in an array")
        case .integer(let number):
            guard Self.integers.contains(number) else { throw .argumentInvalid("\(here): an integer beyond \(Self.integers.upperBound)") }
        case .double(let number):
            guard number.isFinite else { throw .argumentInvalid("\(here): not a number") }
        case .string(let text):
            guard text.utf8.count <= Self.longestTextBytes else {
                throw .argumentInvalid("\(here): a text longer than \(Self.longestTextBytes) bytes")
            }
        case .array(let elements):
            guard level < Self.mostLevels else { throw .argumentInvalid("\(here): more than \(Self.mostLevels) levels") }
            for element in elements { try check(element, path: path, key: key, level: level + 1, isInArray: true) }
        case .object(let members):
            guard level < Self.mostLevels else { throw .argumentInvalid("\(here): more than \(Self.mostLevels) levels") }
            try check(members: members, path: here, level: level + 1, isInArray: isInArray)
        }
    }

    private static func fault(ofKey key: String) -> String? {
        let bytes = key.utf8.count
        guard (1...longestKeyBytes).contains(bytes) else { return bytes == 0 ? "is empty" : "is longer than \(longestKeyBytes) bytes" }
        for scalar in key.unicodeScalars {
            switch scalar {
            case ".", " ", "$": return "contains \(scalar == " " ? "a space" : String(scalar))"
            case "\0"..."\u{1F}", "\u{7F}"..."\u{9F}": return "contains a control character"
            default: break
            }
        }
        return nil
    }

    // MARK: - Size

    func checkSize(_ content: JSONObject) throws(RegistryError) {
        var bytes = 0
        Self.add(content, to: &bytes)
        guard bytes <= mostBytes else {
            throw .argumentInvalid("\(name): \(bytes) bytes, and \(mostBytes >> 10) KB are the most that the section may have")
        }
    }

    /// Texts and keys by their bytes, numbers 8, true and false 4, objects and arrays nothing.
    private static func add(_ members: JSONObject, to bytes: inout Int) {
        for (key, value) in members {
            bytes += key.utf8.count
            add(value, to: &bytes)
        }
    }

    private static func add(_ value: JSONValue, to bytes: inout Int) {
        switch value {
        case .null: break
        case .bool: bytes += 4
        case .integer, .double: bytes += 8
        case .string(let text): bytes += text.utf8.count
        case .array(let elements):
            for element in elements {
                add(element, to: &bytes)
                // Else a section without bounds could be made of empty arrays.
                if element.array != nil || element.object != nil { bytes += 1 }
            }
        case .object(let members): add(members, to: &bytes)
        }
    }
}
