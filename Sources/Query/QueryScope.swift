import Wire

/// Which devices can meet a condition at all, as far as their ids tell: a query that names them need not look at all others.
package enum QueryScope: Equatable, Sendable {
    case all
    /// Ids in the order of their bytes, none twice.
    case devices([String])
    /// Ids that begin so.
    case prefix(String)
}

extension Query {
    /// The job that the condition names, when no other can meet it: for queries over jobs.
    package var jobID: String? {
        let id = QueryExpression.path(QueryPath("jobId"))
        for part in condition?.conjuncts ?? [] {
            switch part {
            case .comparison(.equal, id, .literal(.string(let text))), .comparison(.equal, .literal(.string(let text)), id): return text
            default: break
            }
        }
        return nil
    }

    package var scope: QueryScope {
        var scope = QueryScope.all
        for part in condition?.conjuncts ?? [] {
            switch (scope, part.scope) {
            case (.devices(let some), .devices(let others)): scope = .devices(some.filter(others.contains))
            case (_, .devices(let ids)): scope = .devices(ids)
            case (.all, .prefix(let text)): scope = .prefix(text)
            default: break
            }
        }
        return scope
    }
}

extension QueryExpression {
    fileprivate var conjuncts: [QueryExpression] {
        if case .all(let parts) = self { parts.flatMap(\.conjuncts) } else { [self] }
    }

    fileprivate var scope: QueryScope {
        let id = QueryExpression.path(QueryPath("deviceId"))
        switch self {
        case .comparison(.equal, id, .literal(let value)), .comparison(.equal, .literal(let value), id): return Self.devices([value])
        case .isOneOf(id, let values): return Self.devices(values)
        case .call(.startsWith, let parts):
            guard parts.count == 2, parts[0] == id, case .literal(.string(let text)) = parts[1], !text.isEmpty else { return .all }
            guard Identifier.isValidID(text) else { return .devices([]) }  // nobody's id begins so
            return .prefix(text)
        default: return .all
        }
    }

    /// Values that can be no id find nobody.
    private static func devices(_ values: [JSONValue]) -> QueryScope {
        let ids = Set(values.compactMap(\.string).filter { Identifier.isValidID($0) })
        return .devices(ids.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) })
    }
}
