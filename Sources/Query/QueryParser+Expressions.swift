import Wire

// From the loosest to the tightest: OR, AND, NOT, comparisons and IN, + and -, * / and %, signs, brackets and literals.

extension QueryParser {
    /// A condition from WHERE to its end.
    mutating func wholeCondition() throws(QuerySyntaxError) -> QueryExpression {
        let start = scanner.place
        return try asCondition(try alternatives(), from: start)
    }

    private func asCondition(_ expression: QueryExpression, from start: Int) throws(QuerySyntaxError) -> QueryExpression {
        guard expression.isCondition else { throw scanner.error("a condition should stand here: a comparison, IN, or a test", at: start) }
        return expression
    }

    /// Runs `body` one level deeper.
    private mutating func nested<Result>(
        _ body: (inout QueryParser) throws(QuerySyntaxError) -> Result
    ) throws(QuerySyntaxError) -> Result {
        guard depth < Query.deepestNesting else { throw scanner.error("more than \(Query.deepestNesting) levels within each other") }
        depth += 1
        let result = try body(&self)
        depth -= 1
        return result
    }

    private mutating func alternatives() throws(QuerySyntaxError) -> QueryExpression {
        let start = scanner.place
        let first = try conjunction()
        guard scanner.sees(keyword: "OR") else { return first }
        var parts = [try asCondition(first, from: start)]
        while scanner.takes(keyword: "OR") {
            let start = scanner.place
            parts.append(try asCondition(try conjunction(), from: start))
        }
        return .any(parts)
    }

    private mutating func conjunction() throws(QuerySyntaxError) -> QueryExpression {
        let start = scanner.place
        let first = try negation()
        guard scanner.sees(keyword: "AND") else { return first }
        var parts = [try asCondition(first, from: start)]
        while scanner.takes(keyword: "AND") {
            let start = scanner.place
            parts.append(try asCondition(try negation(), from: start))
        }
        return .all(parts)
    }

    private mutating func negation() throws(QuerySyntaxError) -> QueryExpression {
        guard scanner.takes(keyword: "NOT") else { return try predicate() }
        let start = scanner.place
        return try nested { parser throws(QuerySyntaxError) in .not(try parser.asCondition(try parser.negation(), from: start)) }
    }

    private mutating func predicate() throws(QuerySyntaxError) -> QueryExpression {
        let left = try sum()
        if let comparison = comparison() { return .comparison(comparison, left, try sum()) }
        if scanner.takes(keyword: "IN") { return .isOneOf(left, try list()) }
        if scanner.takes(keyword: "NIN") { return .not(.isOneOf(left, try list())) }
        guard scanner.takes(keyword: "NOT") else { return left }
        guard scanner.takes(keyword: "IN") else { throw unexpected("IN") }
        return .not(.isOneOf(left, try list()))
    }

    private mutating func comparison() -> QueryExpression.Comparison? {
        if scanner.takes("=") { return .equal }
        if scanner.takes("!=") || scanner.takes("<>") { return .notEqual }
        if scanner.takes("<=") { return .lessOrEqual }
        if scanner.takes(">=") { return .greaterOrEqual }
        if scanner.takes("<") { return .less }
        return scanner.takes(">") ? .greater : nil
    }

    private mutating func sum() throws(QuerySyntaxError) -> QueryExpression {
        try chain({ scanner in scanner.takes("+") ? .plus : scanner.takes("-") ? .minus : nil }) { parser throws(QuerySyntaxError) in
            try parser.product()
        }
    }

    private mutating func product() throws(QuerySyntaxError) -> QueryExpression {
        try chain({ scanner in scanner.takes("*") ? .times : scanner.takes("/") ? .divided : scanner.takes("%") ? .modulo : nil }) {
            parser throws(QuerySyntaxError) in try parser.signed()
        }
    }

    private mutating func chain(
        _ operation: (inout QueryScanner) -> QueryExpression.Operator?,
        _ operand: (inout QueryParser) throws(QuerySyntaxError) -> QueryExpression
    ) throws(QuerySyntaxError) -> QueryExpression {
        let first = try operand(&self)
        var steps: [QueryExpression.Step] = []
        while let operation = operation(&scanner) {
            steps.append(QueryExpression.Step(operation: operation, operand: try operand(&self)))
        }
        return steps.isEmpty ? first : .arithmetic(first, steps)
    }

    private mutating func signed() throws(QuerySyntaxError) -> QueryExpression {
        guard scanner.takes("-") else { return try primary() }
        return try nested { parser throws(QuerySyntaxError) in
            let operand = try parser.signed()
            if case .literal(let value) = operand, let negated = Self.negated(value) { return .literal(negated) }
            return .negative(operand)
        }
    }

    private static func negated(_ value: JSONValue) -> JSONValue? {
        switch value {
        case .integer(let number): number == .min ? nil : .integer(-number)
        case .double(let number): .double(-number)
        default: nil
        }
    }

    private mutating func primary() throws(QuerySyntaxError) -> QueryExpression {
        if scanner.takes("(") {
            return try nested { parser throws(QuerySyntaxError) in
                let inner = try parser.alternatives()
                try parser.scanner.expect(")", ") should stand here")
                return inner
            }
        }
        if scanner.takes(keyword: "undefined") { return .undefined }
        if let literal = try literal() { return .literal(literal) }
        let before = scanner
        guard let word = scanner.word() else { throw unexpected("a property, a literal or a function") }
        scanner.skip(word: word)
        guard scanner.takes("(") else {
            scanner = before
            return .path(try path())
        }
        guard let function = QueryFunction.named(word) else {
            scanner = before
            throw unknownFunction(word)
        }
        return try nested { parser throws(QuerySyntaxError) in .call(function, try parser.arguments(of: function, from: before)) }
    }

    private func unknownFunction(_ word: String) -> QuerySyntaxError {
        ["count", "sum", "avg", "min", "max"].contains(word.lowercased())
            ? scanner.error("\(word.uppercased()) stands between SELECT and FROM only") : scanner.error("there is no function of this name")
    }

    private mutating func arguments(of function: QueryFunction, from start: QueryScanner) throws(QuerySyntaxError) -> [QueryExpression] {
        var arguments: [QueryExpression] = []
        if !scanner.sees(")") {
            repeat { arguments.append(try alternatives()) } while scanner.takes(",")
        }
        try scanner.expect(")", ", or ) should stand here")
        guard function.arity.contains(arguments.count) else {
            let arity = function.arity
            throw start.error(
                "this function takes \(arity.lowerBound)\(arity.count > 1 ? " or more" : "") argument\(arity == 1...1 ? "" : "s")")
        }
        return arguments
    }

    // MARK: - Literals

    /// Number, text, true, false, null or array; nil when none stands here.
    private mutating func literal() throws(QuerySyntaxError) -> JSONValue? {
        if scanner.seesDigit { return try scanner.takeNumber() }
        if scanner.seesQuote { return .string(try scanner.takeText()) }
        if scanner.takes(keyword: "true") { return true }
        if scanner.takes(keyword: "false") { return false }
        if scanner.takes(keyword: "null") { return .null }
        return scanner.sees("[") ? .array(try list()) : nil
    }

    /// `[literal, …]`
    private mutating func list() throws(QuerySyntaxError) -> [JSONValue] {
        try scanner.expect("[", "a list in [ ] should stand here")
        return try nested { parser throws(QuerySyntaxError) in
            var values: [JSONValue] = []
            if parser.scanner.takes("]") { return values }
            repeat {
                let isNegative = parser.scanner.takes("-")
                guard let value = try parser.literal() else { throw parser.unexpected("a literal") }
                guard isNegative else {
                    values.append(value)
                    continue
                }
                guard let negated = Self.negated(value) else { throw parser.scanner.error("a number should stand behind -") }
                values.append(negated)
            } while parser.scanner.takes(",")
            try parser.scanner.expect("]", ", or ] should stand here")
            return values
        }
    }
}
