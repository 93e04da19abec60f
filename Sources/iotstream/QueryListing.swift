import Console
import Wire

/// The answer of a query as a table, or as JSON.
struct QueryListing {
    private let wantsJSON: Bool
    private var isTwins = false
    private var items: [JSONValue] = []

    init(_ arguments: Arguments) { wantsJSON = arguments.wantsJSON }

    var isEmpty: Bool { items.isEmpty }

    mutating func add(_ rows: QueryRows) {
        isTwins = rows.kind == "Twin"
        items += rows.items
    }

    func finish() throws(Failure) {
        if wantsJSON { return try Output.json(.array(items)) }
        try isTwins ? twins() : members()
    }

    private func twins() throws(Failure) {
        try Output.table(
            ["ID", "STATUS", "AUTHENTICATION", "CONNECTION", "KIND", "REASON"],
            items.map { twin in
                let device = twin["deviceId"]?.string ?? ""
                return [
                    twin["moduleId"]?.string.map { "\(device)/\($0)" } ?? device, twin["status"]?.string ?? "",
                    twin["authenticationType"]?.string ?? "", twin["connectionState"]?.string ?? "",
                    twin["capabilities"]?["iotEdge"]?.bool == true ? "edge" : "", twin["statusReason"]?.string ?? "",
                ]
            })
    }

    /// A column for each member that any row has.
    private func members() throws(Failure) {
        var columns: [String] = []
        var known: Set<String> = []
        for item in items {
            for key in item.object?.keys ?? [] where known.insert(key).inserted { columns.append(key) }
        }
        guard !columns.isEmpty else { return }
        try Output.table(
            columns, items.map { item in columns.map { column in item[column].map { $0.string ?? $0.text() } ?? "" } })
    }
}
