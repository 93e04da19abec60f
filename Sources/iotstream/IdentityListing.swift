import Console
import Wire

/// Devices or modules as a table, or as JSON.
struct IdentityListing {
    private let wantsJSON: Bool
    private var rows: [[String]] = []
    private var documents: [JSONValue] = []

    init(_ arguments: Arguments) { wantsJSON = arguments.wantsJSON }

    var isEmpty: Bool { rows.isEmpty && documents.isEmpty }

    mutating func add(_ document: JSONValue) throws(Failure) {
        guard !wantsJSON else { return documents.append(document) }
        let isModule = document["moduleId"]?.string.map { !$0.isEmpty } ?? false
        rows.append([
            (isModule ? document["moduleId"] : document["deviceId"])?.string ?? "", document["status"]?.string ?? "enabled",
            document["authentication"]?["type"]?.string ?? "", document["connectionState"]?.string ?? "",
            document["capabilities"]?["iotEdge"]?.bool == true ? "edge" : "", document["statusReason"]?.string ?? "",
        ])
    }

    func finish() throws(Failure) {
        if wantsJSON { return try Output.json(.array(documents)) }
        try Output.table(["ID", "STATUS", "AUTHENTICATION", "CONNECTION", "KIND", "REASON"], rows)
    }

    /// One document, for a person without its keys: `connection-string` shows those.
    static func show(_ document: JSONValue, _ arguments: Arguments) throws(Failure) {
        guard !arguments.wantsJSON else { return try Output.json(document) }
        var lines: [(String, String)] = []
        collect(document, "", into: &lines)
        let width = lines.map(\.0.count).max() ?? 0
        for (name, value) in lines {
            try Output.line(name + String(repeating: " ", count: width - name.count + 2) + Printable.oneLine(value))
        }
    }

    private static func collect(_ value: JSONValue, _ path: String, into lines: inout [(String, String)]) {
        guard let members = value.object else {
            if !value.isNull { lines.append((path, value.string ?? value.text())) }
            return
        }
        for (key, member) in members where key != "symmetricKey" {
            collect(member, path.isEmpty ? key : "\(path).\(key)", into: &lines)
        }
    }
}
