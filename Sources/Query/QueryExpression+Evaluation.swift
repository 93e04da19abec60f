import Glibc
import Wire

// The rules of service-rest 11.2. A missing member is undefined, and a comparison with it is unknown: neither it nor its
// contrary holds. Values of different types are neither equal, nor unequal, nor in order; but null differs from all others.

extension QueryExpression {
    /// The value for a document; nil: undefined, or unknown for a condition.
    package func value(in document: some QueryDocument) -> JSONValue? {
        switch self {
        case .literal(let value): return value
        case .undefined: return nil
        case .path(let path): return path.value(in: document)
        case .comparison(let comparison, let one, let other):
            guard let one = one.value(in: document), let other = other.value(in: document) else { return nil }
            return .bool(comparison.holds(one, other))
        case .isOneOf(let part, let values):
            guard let value = part.value(in: document) else { return nil }
            return .bool(values.contains { Comparison.equal.holds(value, $0) })
        case .not(let part): return part.value(in: document)?.bool.map { .bool(!$0) }
        case .all(let parts): return Self.judge(parts, in: document, decisive: false)
        case .any(let parts): return Self.judge(parts, in: document, decisive: true)
        case .negative(let part):
            switch part.value(in: document) {
            case .integer(let number)? where number != .min: return .integer(-number)
            case let value?: return value.double.map { .double(-$0) }
            case nil: return nil
            }
        case .arithmetic(let first, let steps):
            var result = first.value(in: document)
            for step in steps {
                guard let one = result, let other = step.operand.value(in: document) else { return nil }
                result = step.operation.applied(to: one, other)
            }
            return result
        case .call(let function, let parts): return function.value(of: parts.map { $0.value(in: document) })
        }
    }

    /// Three-valued AND and OR: one part that is `decisive` decides, else one that is unknown leaves it open.
    private static func judge(_ parts: [QueryExpression], in document: some QueryDocument, decisive: Bool) -> JSONValue? {
        var isOpen = false
        for part in parts {
            guard let verdict = part.value(in: document)?.bool else {
                isOpen = true
                continue
            }
            if verdict == decisive { return .bool(decisive) }
        }
        return isOpen ? nil : .bool(!decisive)
    }
}

extension QueryExpression.Comparison {
    /// Whether it holds between two values; texts compare by their code points.
    func holds(_ one: JSONValue, _ other: JSONValue) -> Bool {
        switch (one, other) {
        case (.null, .null): return self == .equal || self == .lessOrEqual || self == .greaterOrEqual
        case (.null, _), (_, .null): return self == .notEqual
        case (.bool(let one), .bool(let other)): return isMetEqually(one == other)
        case (.array, .array), (.object, .object): return isMetEqually(QueryValue.same(one, other))
        case (.string(let one), .string(let other)):
            if one.utf8.elementsEqual(other.utf8) { return isMet(by: 0) }
            return isMet(by: one.utf8.lexicographicallyPrecedes(other.utf8) ? -1 : 1)
        default: return QueryValue.order(one, other).map(isMet(by:)) ?? false
        }
    }

    private func isMetEqually(_ areSame: Bool) -> Bool {
        switch self {
        case .equal: areSame
        case .notEqual: !areSame
        default: false
        }
    }

    private func isMet(by order: Int) -> Bool {
        switch self {
        case .equal: order == 0
        case .notEqual: order != 0
        case .less: order < 0
        case .lessOrEqual: order <= 0
        case .greater: order > 0
        case .greaterOrEqual: order >= 0
        }
    }
}

extension QueryExpression.Operator {
    /// The result, an integer where both are and it is one; nil for anything but numbers, and where there is no result.
    func applied(to one: JSONValue, _ other: JSONValue) -> JSONValue? {
        if case .integer(let one) = one, case .integer(let other) = other, let exact = applied(to: one, other) { return .integer(exact) }
        guard let one = one.double, let other = other.double else { return nil }
        let result =
            switch self {
            case .plus: one + other
            case .minus: one - other
            case .times: one * other
            case .divided: one / other
            case .modulo: fmod(one, other)
            }
        return result.isFinite ? .double(result) : nil
    }

    private func applied(to one: Int64, _ other: Int64) -> Int64? {
        let (result, overflow): (Int64, Bool)
        switch self {
        case .plus: (result, overflow) = one.addingReportingOverflow(other)
        case .minus: (result, overflow) = one.subtractingReportingOverflow(other)
        case .times: (result, overflow) = one.multipliedReportingOverflow(by: other)
        case .modulo: (result, overflow) = one.remainderReportingOverflow(dividingBy: other)
        case .divided:
            guard one.remainderReportingOverflow(dividingBy: other) == (0, false) else { return nil }
            (result, overflow) = one.dividedReportingOverflow(by: other)
        }
        return overflow ? nil : result
    }
}

/// Comparing values by what they say, not by how they are kept.
enum QueryValue {
    /// -1, 0 or 1 for two numbers, exactly; nil when one is none.
    static func order(_ one: JSONValue, _ other: JSONValue) -> Int? {
        if case .integer(let one) = one, case .integer(let other) = other { return one < other ? -1 : one == other ? 0 : 1 }
        guard let real = one.double, let otherReal = other.double, !real.isNaN, !otherReal.isNaN else { return nil }
        if let whole = one.integer, let otherWhole = other.integer { return whole < otherWhole ? -1 : whole == otherWhole ? 0 : 1 }
        return real < otherReal ? -1 : real == otherReal ? 0 : 1
    }

    /// Whether both are the same, numbers by value, texts by their code points.
    static func same(_ one: JSONValue, _ other: JSONValue) -> Bool {
        switch (one, other) {
        case (.null, .null): true
        case (.bool(let one), .bool(let other)): one == other
        case (.string(let one), .string(let other)): one.utf8.elementsEqual(other.utf8)
        case (.array(let one), .array(let other)): one.count == other.count && zip(one, other).allSatisfy { same($0, $1) }
        case (.object(let one), .object(let other)):
            one.count == other.count && one.allSatisfy { key, value in other[key].map { same(value, $0) } ?? false }
        default: order(one, other) == 0
        }
    }

    /// The value in a form that is the same text for the same value.
    static func canonical(_ value: JSONValue) -> JSONValue {
        switch value {
        case .double(let number): value.integer.map { .integer($0) } ?? .double(number)
        case .array(let values): .array(values.map(canonical))
        case .object(let members):
            .object(members.reduce(into: JSONObject()) { object, member in object[member.key] = canonical(member.value) })
        default: value
        }
    }
}
