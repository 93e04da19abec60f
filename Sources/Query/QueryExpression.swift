import Wire

/// Something in a query that has a value for a document, or none: then it is undefined.
///
/// Chains (`a AND b AND c`, `1 + 2 - 3`) lie flat, so that no stack depends on their length.
package indirect enum QueryExpression: Equatable, Sendable {
    case literal(JSONValue)
    case undefined
    case path(QueryPath)
    case comparison(Comparison, QueryExpression, QueryExpression)
    case isOneOf(QueryExpression, [JSONValue])
    case all([QueryExpression])
    case any([QueryExpression])
    case not(QueryExpression)
    case negative(QueryExpression)
    case arithmetic(QueryExpression, [Step])
    case call(QueryFunction, [QueryExpression])

    package enum Comparison: Equatable, Sendable { case equal, notEqual, less, lessOrEqual, greater, greaterOrEqual }
    package enum Operator: Equatable, Sendable { case plus, minus, times, divided, modulo }

    /// One operation behind another.
    package struct Step: Equatable, Sendable {
        package var operation: Operator
        package var operand: QueryExpression
    }

    /// Whether it can be true: what stands for itself in a condition.
    var isCondition: Bool {
        switch self {
        case .undefined, .path, .comparison, .isOneOf, .all, .any, .not: true
        case .literal(let value): value.bool != nil || value.isNull
        case .call(let function, _): function.isTest
        case .negative, .arithmetic: false
        }
    }

    func collectRoots(_ roots: inout Set<String>) {
        switch self {
        case .literal, .undefined: break
        case .path(let path): roots.insert(path.root)
        case .comparison(_, let one, let other):
            one.collectRoots(&roots)
            other.collectRoots(&roots)
        case .isOneOf(let part, _), .not(let part), .negative(let part): part.collectRoots(&roots)
        case .all(let parts), .any(let parts), .call(_, let parts): for part in parts { part.collectRoots(&roots) }
        case .arithmetic(let first, let steps):
            first.collectRoots(&roots)
            for step in steps { step.operand.collectRoots(&roots) }
        }
    }

    /// The same with each path turned by `change`.
    func mapPaths(_ change: (QueryPath) -> QueryPath) -> QueryExpression {
        switch self {
        case .literal, .undefined: self
        case .path(let path): .path(change(path))
        case .comparison(let comparison, let one, let other): .comparison(comparison, one.mapPaths(change), other.mapPaths(change))
        case .isOneOf(let part, let values): .isOneOf(part.mapPaths(change), values)
        case .not(let part): .not(part.mapPaths(change))
        case .negative(let part): .negative(part.mapPaths(change))
        case .all(let parts): .all(parts.map { $0.mapPaths(change) })
        case .any(let parts): .any(parts.map { $0.mapPaths(change) })
        case .call(let function, let parts): .call(function, parts.map { $0.mapPaths(change) })
        case .arithmetic(let first, let steps):
            .arithmetic(first.mapPaths(change), steps.map { Step(operation: $0.operation, operand: $0.operand.mapPaths(change)) })
        }
    }
}
