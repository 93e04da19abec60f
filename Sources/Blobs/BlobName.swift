import Wire

/// What a device's file is called: `{deviceId}/{path}` (mqtt-device 15).
///
/// Such a name can be a file below the device's directory and nowhere else: no component is empty, `.` or `..`, none has control
/// characters, and none is longer than a file system takes.
package struct BlobName: Hashable, Sendable, CustomStringConvertible {
    /// Bytes of the longest path, and of the longest component of one.
    package static let longestPath = 1024, longestComponent = 255
    /// Components of a path at most: each may cost a directory.
    package static let mostComponents = 16

    package let device: String
    /// What the device calls it: one or more components with slashes between.
    package let path: String

    /// Nil when the id is none, or the path breaks a rule.
    package init?(device: String, path: String) {
        guard Identifier.isValidID(device), (1...Self.longestPath).contains(path.utf8.count) else { return nil }
        let components = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard components.count <= Self.mostComponents, components.allSatisfy({ Self.isComponent($0) }) else { return nil }
        self.device = device
        self.path = path
    }

    /// Takes `{deviceId}/{path}` apart at its first slash.
    package init?(_ text: String) {
        guard let slash = text.utf8.firstIndex(of: UInt8(ascii: "/")) else { return nil }
        self.init(device: String(text[..<slash]), path: String(text[text.utf8.index(after: slash)...]))
    }

    private static func isComponent(_ text: Substring.UTF8View) -> Bool {
        guard (1...longestComponent).contains(text.count), !text.elementsEqual(".".utf8), !text.elementsEqual("..".utf8) else {
            return false
        }
        return Substring(text).unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }
    }

    /// `{deviceId}/{path}`.
    package var description: String { "\(device)/\(path)" }

    /// The name of a device's directory: its id, with `%25` for a percent sign and `%2E` for a dot at its beginning. So no id is `.`
    /// or `..`, none is a hidden name, which are the hub's own, and no two are the same.
    package static func directory(of device: String) -> String {
        var name = ""
        for (index, character) in device.unicodeScalars.enumerated() {
            switch character {
            case "%": name += "%25"
            case "." where index == 0: name += "%2E"
            default: name.unicodeScalars.append(character)
            }
        }
        return name
    }
}
