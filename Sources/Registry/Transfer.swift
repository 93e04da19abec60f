import Bytes
import Store
import Wire

/// An import or export job (service-rest 15): devices from a file, or into one, in a directory of the hub's own.
package struct Transfer: Equatable, Sendable {
    package enum Kind: String, Sendable { case `import`, export }

    package enum Status: String, Sendable {
        case enqueued, running, completed, failed, cancelled
        package var isOver: Bool { self == .completed || self == .failed || self == .cancelled }
    }

    package let id: String
    package let kind: Kind
    /// What was asked for, as it was asked.
    private let order: JSONObject
    package let startTime: Timestamp
    package internal(set) var endTime: Timestamp?
    package internal(set) var status = Status.enqueued
    /// Per cent.
    package internal(set) var progress = 0
    package internal(set) var failureReason = ""

    /// The file with the lines that an import refused, beside its output.
    package static let errorsName = "importErrors.log"
    private static let members = [
        "inputBlobContainerUri", "inputBlobName", "outputBlobContainerUri", "outputBlobName", "excludeKeysInExport",
        "storageAuthenticationType", "includeConfigurations", "configurationsBlobName",
    ]

    /// Reads the body of `POST /jobs/create`.
    ///
    /// - Throws: `argumentInvalid` or `argumentNull`, also when a container is none of the hub's own.
    package init(request json: JSONValue, now: Timestamp) throws(RegistryError) {
        guard json.object != nil else { throw .argumentInvalid("the body is not an object") }
        guard let type = try json.optionalText("type") else { throw .argumentNull("type is missing") }
        guard let kind = [Kind.import, .export].first(where: { ASCII.equalIgnoringCase($0.rawValue, type) }) else {
            throw .argumentInvalid("type is neither import nor export")
        }
        var order = JSONObject()
        for member in Self.members {
            if let value = json[member], !value.isNull { order[member] = value }
        }
        for flag in ["excludeKeysInExport", "includeConfigurations"] { _ = try json.optionalBool(flag) }
        for name in ["inputBlobName", "outputBlobName", "configurationsBlobName"] {
            guard let text = try json.optionalText(name), !text.isEmpty else { continue }
            guard Self.isPlain(text), text != Self.errorsName else { throw .argumentInvalid("\(name) is not a plain file name") }
        }
        id = Hex.encode([UInt8].random(count: 16))
        self.kind = kind
        self.order = order
        startTime = now
        _ = try place(kind == .import ? "inputBlobContainerUri" : "outputBlobContainerUri")
        if order["outputBlobContainerUri"] != nil { _ = try place("outputBlobContainerUri") }
    }

    /// Where it reads, or writes: names of directories below `STATE/transfer`.
    package func input() throws(RegistryError) -> [String] { try place("inputBlobContainerUri") }
    package func output() throws(RegistryError) -> [String] {
        try place(order["outputBlobContainerUri"] == nil ? "inputBlobContainerUri" : "outputBlobContainerUri")
    }

    package var inputName: String { name("inputBlobName", "devices.txt") }
    package var outputName: String { name("outputBlobName", "devices.txt") }
    /// Nil when configurations are none of its business.
    package var configurationsName: String? {
        order["includeConfigurations"]?.bool == true ? name("configurationsBlobName", "configurations.txt") : nil
    }
    package var excludesKeys: Bool { order["excludeKeysInExport"]?.bool ?? false }

    private func name(_ member: String, _ usual: String) -> String {
        order[member]?.string.flatMap { $0.isEmpty ? nil : $0 } ?? usual
    }

    private func place(_ member: String) throws(RegistryError) -> [String] {
        guard let text = order[member]?.string, !text.isEmpty else { throw .argumentNull("\(member) is missing") }
        guard let segments = Self.segments(ofContainer: text) else {
            throw .argumentInvalid(
                "\(member): this hub knows no other store than its own; write file:NAME, a directory of its transfer directory")
        }
        return segments
    }

    /// The directories of `file:a/b`, `file:///a/b` or `a/b`, with or without a query behind it; nil when the text means anything else.
    package static func segments(ofContainer text: String) -> [String]? {
        var rest = text.prefix { $0 != "?" }
        if rest.hasPrefix("file:") {
            rest = rest.dropFirst(5)
            if rest.hasPrefix("//") { rest = rest.dropFirst(2) }
            if rest.hasPrefix("/") { rest = rest.dropFirst() }
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        let segments = rest.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard segments.count <= 8, segments.allSatisfy(isPlain) else { return nil }
        return segments
    }

    /// 1 to 128 of `A-Z a-z 0-9 - . _`, the first no full stop.
    private static func isPlain(_ name: String) -> Bool {
        (1...128).contains(name.utf8.count) && !name.hasPrefix(".")
            && name.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || [0x2D, 0x2E, 0x5F].contains($0)
            }
    }
}

extension Transfer {
    /// The document of the service API, which is the record too.
    package var json: JSONValue {
        var document = JSONObject()
        document["jobId"] = .string(id)
        document["startTimeUtc"] = .string(startTime.description)
        if let endTime { document["endTimeUtc"] = .string(endTime.description) }
        document["type"] = .string(kind.rawValue)
        document["status"] = .string(status.rawValue)
        document["progress"] = .integer(Int64(progress))
        for (member, value) in order { document[member] = value }
        document["failureReason"] = .string(failureReason)
        return .object(document)
    }

    /// Nil when the record is none.
    package init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let id = json["jobId"]?.string,
            let kind = json["type"]?.string.flatMap({ Kind(rawValue: $0) }),
            let start = json["startTimeUtc"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let status = json["status"]?.string.flatMap({ Status(rawValue: $0) })
        else { return nil }
        self.id = id
        self.kind = kind
        startTime = start
        endTime = json["endTimeUtc"]?.string.flatMap { Timestamp(parsing: $0) }
        self.status = status
        progress = Int(clamping: json["progress"]?.integer ?? 0)
        failureReason = json["failureReason"]?.string ?? ""
        var order = JSONObject()
        for member in Self.members { order[member] = json[member] }
        self.order = order
    }
}
