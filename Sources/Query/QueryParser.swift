import Wire

extension Query {
    /// Reads a query.
    package init(parsing text: String) throws(QuerySyntaxError) {
        var parser = try QueryParser(text)
        self = try parser.query()
    }

    /// Reads a query over documents of another kind, where `source` is the only name that FROM takes.
    package init(parsing text: String, from source: String) throws(QuerySyntaxError) {
        var parser = try QueryParser(text)
        parser.onlySource = source
        self = try parser.query()
    }

    /// Reads a condition alone, as jobs and configurations have them (service-rest 11.3): `*` is every device, and it may begin
    /// with `FROM devices.modules WHERE`. Nil for an empty one: nobody.
    package static func parse(condition text: String) throws(QuerySyntaxError) -> Query? {
        var parser = try QueryParser(text)
        return try parser.conditionAlone()
    }
}

/// Reads a query by recursive descent, no deeper than `Query.deepestNesting`.
struct QueryParser {
    var scanner: QueryScanner
    /// The one source there is, where it is another than the hub's.
    var onlySource: String?
    /// Levels that are open.
    var depth = 0

    init(_ text: String) throws(QuerySyntaxError) {
        guard text.utf8.count <= 4 * Query.longestText, text.unicodeScalars.count <= Query.longestText else {
            throw QuerySyntaxError(position: Query.longestText + 1, reason: "a query has \(Query.longestText) characters at the most")
        }
        scanner = QueryScanner(text)
        scanner.skipSpace()
    }

    /// Words that begin something else, so that they cannot be an alias or begin a path.
    private static let reserved = [
        "select", "top", "as", "from", "where", "group", "by", "and", "or", "not", "in", "nin", "true", "false", "null", "undefined",
    ]
    /// Words of other languages.
    private static let foreign = [
        "order", "join", "having", "limit", "offset", "distinct", "union", "between", "like", "exists", "value",
    ]

    static func isReserved(_ word: String) -> Bool { reserved.contains { ASCII.equalIgnoringCase($0, word) } }

    /// Why the text does not go on as it should.
    func unexpected(_ wanted: String) -> QuerySyntaxError {
        if let word = scanner.word(), let foreign = Self.foreign.first(where: { ASCII.equalIgnoringCase($0, word) }) {
            return scanner.error("\(foreign.uppercased()) is not part of the query language")
        }
        return scanner.error(scanner.isAtEnd ? "the query ends where \(wanted) should follow" : "\(wanted) should stand here")
    }

    // MARK: - The parts

    mutating func query() throws(QuerySyntaxError) -> Query {
        var query = Query()
        guard scanner.takes(keyword: "SELECT") else { throw unexpected("SELECT") }
        if scanner.takes(keyword: "TOP") {
            guard scanner.seesDigit, case let start = scanner.place, let top = try scanner.takeNumber().integer else {
                throw scanner.error("TOP needs a number")
            }
            guard (1...Int64(Int32.max)).contains(top) else { throw scanner.error("TOP needs a number from 1 on", at: start) }
            query.top = Int(top)
        }
        let places = try selection(&query)
        guard scanner.takes(keyword: "FROM") else { throw unexpected("FROM") }
        let alias = try source(&query)
        if scanner.takes(keyword: "WHERE") { query.condition = try wholeCondition() }
        if scanner.takes(keyword: "GROUP") {
            guard scanner.takes(keyword: "BY") else { throw unexpected("BY") }
            repeat { query.grouping.append(try path()) } while scanner.takes(",")
        }
        _ = scanner.takes(";")
        guard scanner.isAtEnd else { throw unexpected("the end of the query, or AND, OR, WHERE, GROUP BY") }
        query.removePrefixes(alias: alias)
        try check(query, places)
        return query
    }

    mutating func conditionAlone() throws(QuerySyntaxError) -> Query? {
        var query = Query()
        if scanner.isAtEnd { return nil }
        if scanner.takes("*") {
            guard scanner.isAtEnd else { throw unexpected("the end behind *") }
            return query
        }
        var alias: String?
        if scanner.takes(keyword: "FROM") {
            alias = try source(&query)
            guard scanner.takes(keyword: "WHERE") else {
                guard scanner.isAtEnd else { throw unexpected("WHERE") }
                return query
            }
        } else {
            _ = scanner.takes(keyword: "WHERE")
        }
        query.condition = try wholeCondition()
        guard scanner.isAtEnd else { throw unexpected("the end of the condition, or AND, OR") }
        query.removePrefixes(alias: alias)
        return query
    }

    /// `*`, or items; tells where each begins, for complaints that need the whole query.
    private mutating func selection(_ query: inout Query) throws(QuerySyntaxError) -> [Int] {
        if scanner.takes("*") { return [] }
        if scanner.sees(keyword: "DISTINCT") { throw unexpected("a property") }
        var items: [Query.Item] = []
        var places: [Int] = []
        var unnamed = 0
        repeat {
            places.append(scanner.place)
            let content: Query.Item.Content
            var name: String
            if let aggregate = try aggregate() {
                content = .aggregate(aggregate)
                unnamed += 1
                name = "$\(unnamed)"
            } else {
                let path = try path()
                content = .path(path)
                name = path.last
            }
            if scanner.takes(keyword: "AS") {
                guard let word = scanner.word() else { throw unexpected("a name") }
                scanner.skip(word: word)
                if case .aggregate = content { unnamed -= 1 }
                name = word
            }
            items.append(Query.Item(content: content, name: name))
        } while scanner.takes(",")
        query.selection = .items(items)
        return places
    }

    /// `COUNT()`, `SUM(path)` and their like; nil when there is none here.
    private mutating func aggregate() throws(QuerySyntaxError) -> Query.Aggregate? {
        let before = scanner
        guard let word = scanner.word() else { return nil }
        scanner.skip(word: word)
        guard scanner.takes("(") else {
            scanner = before
            return nil
        }
        let aggregate: Query.Aggregate
        switch word.lowercased() {
        case "count":
            _ = scanner.takes("*")
            aggregate = .count
        case "sum": aggregate = .sum(try path())
        case "avg": aggregate = .average(try path())
        case "min": aggregate = .minimum(try path())
        case "max": aggregate = .maximum(try path())
        default:
            scanner = before
            throw scanner.error("only COUNT, SUM, AVG, MIN and MAX can stand between SELECT and FROM")
        }
        try scanner.expect(")", ") should stand here")
        return aggregate
    }

    /// The source, and the alias that paths may begin with.
    private mutating func source(_ query: inout Query) throws(QuerySyntaxError) -> String? {
        let start = scanner.place
        let name = try path()
        switch ([name.root] + name.rest).map({ $0.lowercased() }) {
        case let words where onlySource != nil:
            guard let only = onlySource, words == [only.lowercased()] else {
                throw scanner.error("the source is \(onlySource ?? "")", at: start)
            }
        case ["devices"]: query.source = .devices
        case ["devices", "modules"]: query.source = .modules
        case ["devices", "jobs"]: query.source = .jobs
        default: throw scanner.error("the source is devices, devices.modules or devices.jobs", at: start)
        }
        let isNamed = scanner.takes(keyword: "AS")
        guard let word = scanner.word(), !Self.isReserved(word), !Self.foreign.contains(where: { ASCII.equalIgnoringCase($0, word) }) else {
            if isNamed { throw unexpected("an alias") }
            return nil
        }
        scanner.skip(word: word)
        return word
    }

    /// `name{.name}` with `[[text]]` and `["text"]` for names of other characters.
    mutating func path() throws(QuerySyntaxError) -> QueryPath {
        guard let word = scanner.word(), !Self.isReserved(word) else { throw unexpected("a property's name") }
        _ = scanner.takeName()
        var path = QueryPath(word)
        while true {
            if scanner.sees("[[") {
                path.rest.append(try scanner.takeDoubleBracket())
            } else if scanner.sees("['") || scanner.sees("[\"") {
                _ = scanner.takes("[")
                path.rest.append(try scanner.takeText())
                guard scanner.sees("]") else { throw scanner.error("] should stand here") }
                scanner.takeOne()
            } else if scanner.sees(".") {
                scanner.takeOne()
                if scanner.sees("[") { continue }
                guard let name = scanner.takeName() else { throw unexpected("a property's name") }
                path.rest.append(name)
            } else {
                scanner.skipSpace()
                return path
            }
        }
    }

    // MARK: - Checks of the whole

    private func check(_ query: Query, _ places: [Int]) throws(QuerySyntaxError) {
        guard case .items(let items) = query.selection else {
            guard query.grouping.isEmpty else { throw scanner.error("SELECT * does not go with GROUP BY: name the properties") }
            return
        }
        if query.source == .jobs { throw scanner.error("devices.jobs can be queried with SELECT * only", at: places.first) }
        guard query.isAggregate else { return }
        for (item, place) in zip(items, places) {
            guard case .path(let path) = item.content, !query.grouping.contains(path) else { continue }
            throw scanner.error("beside an aggregate, a property must stand in GROUP BY too", at: place)
        }
    }
}

extension Query {
    /// Takes the source's name and the alias off the paths: `c.tags.a` and `devices.tags.a` are `tags.a`.
    fileprivate mutating func removePrefixes(alias: String?) {
        let second: String? =
            switch source {
            case .devices: nil
            case .modules: "modules"
            case .jobs: "jobs"
            }
        func bare(_ path: QueryPath) -> QueryPath {
            var path = path
            if path.root == alias, !path.rest.isEmpty {
                path.root = path.rest.removeFirst()
            } else if ASCII.equalIgnoringCase(path.root, "devices"), !path.rest.isEmpty {
                if let second, path.rest.count > 1, ASCII.equalIgnoringCase(path.rest[0], second) { path.rest.removeFirst() }
                path.root = path.rest.removeFirst()
            }
            return path
        }
        condition = condition?.mapPaths(bare)
        grouping = grouping.map(bare)
        guard case .items(let items) = selection else { return }
        selection = .items(
            items.map { item in
                var item = item
                switch item.content {
                case .path(let path): item.content = .path(bare(path))
                case .aggregate(.sum(let path)): item.content = .aggregate(.sum(bare(path)))
                case .aggregate(.average(let path)): item.content = .aggregate(.average(bare(path)))
                case .aggregate(.minimum(let path)): item.content = .aggregate(.minimum(bare(path)))
                case .aggregate(.maximum(let path)): item.content = .aggregate(.maximum(bare(path)))
                case .aggregate(.count): break
                }
                return item
            })
    }
}
