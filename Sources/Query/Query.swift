import Wire

/// A query over twins, modules' twins or jobs (service-rest 11), read and checked; it knows nothing of where documents lie.
package struct Query: Equatable, Sendable {
    /// What the rows are made from.
    package enum Source: Equatable, Sendable { case devices, modules, jobs }

    /// What a row shows.
    package enum Selection: Equatable, Sendable {
        /// The whole document.
        case everything
        case items([Item])
    }

    /// One member of a row.
    package struct Item: Equatable, Sendable {
        package enum Content: Equatable, Sendable {
            case path(QueryPath)
            case aggregate(Aggregate)
        }

        package var content: Content
        /// The member's name: what stands behind AS, else the path's last part, else `$1`, `$2` …
        package var name: String
    }

    /// A number over many documents.
    package enum Aggregate: Equatable, Sendable {
        case count
        case sum(QueryPath), average(QueryPath), minimum(QueryPath), maximum(QueryPath)
    }

    package internal(set) var source = Source.devices
    package internal(set) var selection = Selection.everything
    /// Rows at the most; nil: all of them.
    package internal(set) var top: Int?
    /// Nil: every document.
    package internal(set) var condition: QueryExpression?
    package internal(set) var grouping: [QueryPath] = []

    init() {}

    /// The longest text, in characters.
    package static let longestText = 8192
    /// Levels of brackets, functions and signs within each other.
    package static let deepestNesting = 50

    /// Whether rows are made from many documents each.
    package var isAggregate: Bool {
        guard case .items(let items) = selection else { return false }
        return !grouping.isEmpty || items.contains { if case .aggregate = $0.content { true } else { false } }
    }

    /// Whether the document meets the condition; unknown is no.
    package func matches(_ document: some QueryDocument) -> Bool {
        condition.map { $0.value(in: document)?.bool == true } ?? true
    }

    /// The row of one document, for a query of items without aggregates. Members that are missing are left out.
    package func row(_ document: some QueryDocument) -> JSONValue {
        guard case .items(let items) = selection else { return [:] }
        var row = JSONObject()
        for item in items {
            if case .path(let path) = item.content, let value = path.value(in: document) { row[item.name] = value }
        }
        return .object(row)
    }

    /// The same query with rows of other members, without aggregates.
    package func selecting(_ paths: [QueryPath]) -> Query {
        var query = self
        query.selection = .items(paths.map { Item(content: .path($0), name: $0.last) })
        query.grouping = []
        return query
    }

    /// The first parts of the paths in the condition.
    package var conditionRoots: Set<String> {
        var roots: Set<String> = []
        condition?.collectRoots(&roots)
        return roots
    }

    /// The first parts of the paths that rows and groups show.
    package var selectionRoots: Set<String> {
        var roots = Set(grouping.map(\.root))
        guard case .items(let items) = selection else { return roots }
        for item in items {
            switch item.content {
            case .path(let path), .aggregate(.sum(let path)), .aggregate(.average(let path)), .aggregate(.minimum(let path)),
                .aggregate(.maximum(let path)):
                roots.insert(path.root)
            case .aggregate(.count): break
            }
        }
        return roots
    }
}

/// Something that queries look into, by the names of its members.
package protocol QueryDocument {
    /// The member of that name; nil when there is none.
    func member(_ root: String) -> JSONValue?
}

extension JSONValue: QueryDocument {
    package func member(_ root: String) -> JSONValue? { self[root] }
}

/// A way into a document: names, one at least.
package struct QueryPath: Hashable, Sendable {
    package internal(set) var root: String
    package internal(set) var rest: [String]

    package init(_ root: String, _ rest: String...) {
        self.root = root
        self.rest = rest
    }

    /// What stands there; nil when nothing does.
    package func value(in document: some QueryDocument) -> JSONValue? {
        var value = document.member(root)
        for name in rest {
            guard let found = value?[name] else { return nil }
            value = found
        }
        return value
    }

    var last: String { rest.last ?? root }
}
