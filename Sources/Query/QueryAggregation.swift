import Bytes
import Wire

/// The rows of a query with aggregates or GROUP BY, gathered document by document.
package struct QueryAggregation: Sendable {
    /// Combinations of values that one query may show.
    package static let mostGroups = 10_000

    /// There are more groups than anybody would read.
    package struct TooManyGroups: Error, Equatable, Sendable {}

    private struct Group: Sendable {
        var keys: [JSONValue?]
        var tallies: [Tally]
    }

    private let query: Query
    private let aggregates: [Query.Aggregate]
    private var groups: [String: Group] = [:]

    package init(_ query: Query) {
        self.query = query
        guard case .items(let items) = query.selection else {
            aggregates = []
            return
        }
        aggregates = items.compactMap { if case .aggregate(let aggregate) = $0.content { aggregate } else { nil } }
        if query.grouping.isEmpty { groups[""] = Group(keys: [], tallies: tallies) }  // one row even of nothing
    }

    private var tallies: [Tally] { Array(repeating: Tally(), count: aggregates.count) }

    /// Takes a document that met the condition.
    package mutating func add(_ document: some QueryDocument) throws(TooManyGroups) {
        let keys = query.grouping.map { $0.value(in: document) }
        // A missing value is a group of its own, and no JSON text is a comma alone.
        let name = keys.map { $0.map { QueryValue.canonical($0).text(sorted: true) } ?? "" }.joined(separator: ",")
        if groups[name] == nil {
            guard groups.count < Self.mostGroups else { throw TooManyGroups() }
            groups[name] = Group(keys: keys, tallies: tallies)
        }
        for (index, aggregate) in aggregates.enumerated() {
            switch aggregate {
            case .count: groups[name]?.tallies[index].count += 1
            case .sum(let path), .average(let path), .minimum(let path), .maximum(let path):
                if let value = path.value(in: document) { groups[name]?.tallies[index].add(value) }
            }
        }
    }

    /// One row to a group, in an order that depends on the groups' values alone.
    package func rows() -> [(digest: UInt64, row: JSONValue)] {
        groups.map { name, group in (QueryDigest.of(name), name, group) }
            .sorted { $0.0 != $1.0 ? $0.0 < $1.0 : $0.1.utf8.lexicographicallyPrecedes($1.1.utf8) }
            .map { ($0.0, row(of: $0.2)) }
    }

    private func row(of group: Group) -> JSONValue {
        guard case .items(let items) = query.selection else { return [:] }
        var row = JSONObject()
        var index = 0
        for item in items {
            switch item.content {
            case .path(let path):
                if let place = query.grouping.firstIndex(of: path), let value = group.keys[place] { row[item.name] = value }
            case .aggregate(let aggregate):
                if let value = group.tallies[index].result(of: aggregate) { row[item.name] = value }
                index += 1
            }
        }
        return .object(row)
    }
}

/// What was seen of one aggregate's values. Sums stay integers as long as 64 bits hold them.
private struct Tally: Sendable {
    var count: Int64 = 0
    private var sum: JSONValue = 0
    private var numbers: Int64 = 0
    private var least: JSONValue?
    private var greatest: JSONValue?
    private var first: String?
    private var last: String?

    /// Numbers count for all, texts for minimum and maximum where there are no numbers.
    mutating func add(_ value: JSONValue) {
        if let text = value.string {
            if first.map({ text.utf8.lexicographicallyPrecedes($0.utf8) }) ?? true { first = text }
            if last.map({ $0.utf8.lexicographicallyPrecedes(text.utf8) }) ?? true { last = text }
        }
        guard value.double != nil else { return }
        numbers += 1
        sum = QueryExpression.Operator.plus.applied(to: sum, value) ?? sum
        if least.flatMap({ QueryValue.order(value, $0) }).map({ $0 < 0 }) ?? true { least = value }
        if greatest.flatMap({ QueryValue.order(value, $0) }).map({ $0 > 0 }) ?? true { greatest = value }
    }

    /// Nil where there was nothing to reckon with.
    func result(of aggregate: Query.Aggregate) -> JSONValue? {
        switch aggregate {
        case .count: .integer(count)
        case .sum: sum
        case .average: numbers == 0 ? nil : sum.double.map { .double($0 / Double(numbers)) }
        case .minimum: least ?? first.map { .string($0) }
        case .maximum: greatest ?? last.map { .string($0) }
        }
    }
}

/// A number that stands for a text: FNV-1a of 64 bits. The same in every process and release.
package enum QueryDigest {
    package static func of(_ text: String) -> UInt64 {
        text.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
