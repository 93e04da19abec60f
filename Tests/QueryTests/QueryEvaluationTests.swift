import Query
import Testing
import Wire

@Suite struct QueryEvaluationTests {
    static let document: JSONValue = [
        "deviceId": "press-17", "status": "enabled", "statusReason": .null, "version": 4, "capabilities": ["iotEdge": false],
        "tags": [
            "plant": "R43", "floor": 3, "height": 2.5, "line": ["a": [1, 2]], "odd name": true, "é": "ü", "when": "2023-02-21T10:40:43Z",
        ],
        "properties": ["reported": ["t": 21.5, "$version": 7, "big": .integer(.max)]],
    ]

    /// A condition, and whether the document above meets it.
    @Test(
        arguments: [
            // Comparisons
            ("deviceId = 'press-17'", true), ("deviceId != 'press-17'", false), ("tags.floor = 3", true), ("tags.floor = 3.0", true),
            ("tags.floor > 2 AND tags.floor < 4 AND tags.floor >= 3 AND tags.floor <= 3", true), ("tags.height = 2.5", true),
            ("tags.plant > 'R4' AND tags.plant < 'S'", true), ("tags.when > '2023-02-21T10:40:42Z'", true), ("'r43' = tags.plant", false),
            ("capabilities.iotEdge = false", true), ("capabilities.iotEdge", false), ("NOT capabilities.iotEdge", true),
            ("tags.line = tags.line", true), ("tags.line.a = [1, 2.0]", true), ("tags.line.a != [1]", true),
            ("properties.reported.big = 9223372036854775807", true), ("properties.reported.big > 9223372036854775806", true),
            ("properties.reported.$version = 7", true), ("tags.é = 'ü'", true), ("tags[[odd name]] = true", true),
            // Types do not mix, null differs from all else, and what is missing is unknown.
            ("tags.floor = '3'", false), ("tags.floor != '3'", false), ("NOT tags.floor = '3'", true), ("tags.floor < 'x'", false),
            ("statusReason = null", true), ("statusReason != null", false), ("tags.floor != null", true), ("tags.floor = null", false),
            ("tags.none = 1", false), ("tags.none != 1", false), ("NOT tags.none = 1", false), ("tags.none = null", false),
            ("tags.none != null", false), ("tags.none = tags.none", false), ("undefined = undefined", false),
            ("tags.none = 1 OR tags.floor = 3", true), ("tags.none = 1 AND tags.floor = 3", false),
            ("NOT (tags.none = 1 AND tags.floor = 4)", true), ("NOT (tags.none = 1 OR tags.floor = 4)", false),
            ("tags.floor.deeper = 1", false), ("TAGS.floor = 3", false),
            // Lists
            ("tags.plant IN ['R42', 'R43']", true), ("tags.plant NIN ['R42']", true), ("tags.plant NOT IN ['R43']", false),
            ("tags.none IN ['x']", false), ("tags.none NIN ['x']", false), ("tags.floor IN []", false), ("tags.floor IN ['3', 3]", true),
            ("tags.line.a IN [[1, 2]]", true), ("statusReason IN [null]", true), ("-3 IN [-3]", true),
            // Arithmetic
            ("tags.floor + 1 = 4", true), ("tags.floor * 2 - 1 = 5", true), ("tags.floor / 2 = 1.5", true), ("tags.floor % 2 = 1", true),
            ("7 / 0 = 1", false), ("7 % 0 = 1", false), ("1 + 2 * 3 = 7", true), ("(1 + 2) * 3 = 9", true), ("-tags.floor = -3", true),
            ("10 - 2 - 3 = 5", true), ("tags.plant + 1 = 1", false), ("9223372036854775807 + 1 > 0", true), ("0x1F = 31", true),
            ("tags.none + 1 = 1", false), ("5.5 % 2 = 1.5", true), ("6 / 3 = 2", true),
            // Type checks always say yes or no.
            ("IS_DEFINED(tags.floor)", true), ("IS_DEFINED(tags.none)", false), ("NOT IS_DEFINED(tags.none)", true),
            ("IS_NULL(statusReason)", true), ("IS_NULL(tags.none)", false), ("IS_BOOL(capabilities.iotEdge)", true),
            ("IS_NUMBER(tags.floor) AND IS_NUMBER(tags.height)", true), ("IS_STRING(tags.plant)", true), ("IS_ARRAY(tags.line.a)", true),
            ("IS_OBJECT(tags.line)", true), ("IS_PRIMITIVE(tags.floor) AND NOT IS_PRIMITIVE(tags.line)", true),
            ("IS_NUMBER(tags.plant)", false),
            // Texts
            ("STARTS_WITH(deviceId, 'press')", true), ("startswith(deviceId, 'Press')", false), ("ENDS_WITH(deviceId, '-17')", true),
            ("CONTAINS(deviceId, 'ss-')", true), ("CONTAINS(tags.none, 'x')", false), ("NOT CONTAINS(tags.none, 'x')", false),
            ("CONCAT(tags.plant, '-', deviceId) = 'R43-press-17'", true), ("LENGTH(tags.é) = 1", true), ("LOWER(tags.plant) = 'r43'", true),
            ("UPPER(deviceId) = 'PRESS-17'", true), ("SUBSTRING(deviceId, 6, 2) = '17'", true), ("SUBSTRING(deviceId, 6, 99) = '17'", true),
            ("SUBSTRING(deviceId, 99, 1) = ''", true), ("INDEX_OF(deviceId, '17') = 6", true), ("INDEX_OF(deviceId, 'x') = -1", true),
            ("INDEX_OF('éü', 'ü') = 1", true), ("AS_NUMBER('3.5') = 3.5", true), ("AS_NUMBER(SUBSTRING(deviceId, 6, 2)) > 16", true),
            ("AS_NUMBER(tags.plant) = 43", false), ("STARTS_WITH(tags.floor, '3')", false),
            // Numbers
            ("ABS(-3) = 3 AND ABS(-2.5) = 2.5", true), ("POWER(2, 10) = 1024", true), ("SQUARE(tags.floor) = 9", true),
            ("CEILING(tags.height) = 3 AND FLOOR(tags.height) = 2", true), ("SIGN(-2.5) = -1", true), ("SQRT(9) = 3", true),
            ("SQRT(-1) = 0", false), ("EXP(0) = 1", true), ("EXP(100000) > 0", false),
        ] as [(String, Bool)])
    func judgesConditions(condition: String, verdict: Bool) throws {
        let query = try Query(parsing: "SELECT * FROM devices WHERE \(condition)")
        #expect(query.matches(Self.document) == verdict)
    }

    @Test func showsWhatIsThere() throws {
        func row(_ items: String) throws -> JSONValue { try Query(parsing: "SELECT \(items) FROM devices d").row(Self.document) }
        #expect(try row("deviceId, tags.plant") == ["deviceId": "press-17", "plant": "R43"])
        #expect(try row("d.tags.plant AS p, tags.none, devices.version") == ["p": "R43", "version": 4])
        #expect(try row("tags[[odd name]], tags.none") == ["odd name": true])
        #expect(try row("statusReason") == ["statusReason": .null])
        #expect(try row("properties.reported.t AS temperature") == ["temperature": 21.5])
    }

    private func rows(_ text: String) throws -> [JSONValue] {
        var groups = QueryAggregation(try Query(parsing: text))
        let documents: [JSONValue] = [
            ["a": "x", "n": 1], ["a": "x", "n": 2], ["a": "y", "n": 4.5], ["a": 1, "n": "text"], ["a": 1.0], ["n": .integer(.max)],
        ]
        for document in documents { try groups.add(document) }
        return groups.rows().map(\.row)
    }

    @Test func countsAndReckons() throws {
        #expect(try rows("SELECT COUNT() FROM devices") == [["$1": 6]])
        #expect(try rows("SELECT COUNT() AS n, MAX(n), MIN(n) FROM devices") == [["n": 6, "$1": .integer(.max), "$2": 1]])
        #expect(try rows("SELECT AVG(none) AS m, SUM(none) AS s, MIN(a) AS first, MAX(none) FROM devices") == [["s": 0, "first": 1]])
        let groups = try rows("SELECT a, COUNT() AS c, SUM(n) AS s, AVG(n) AS m FROM devices GROUP BY a")
        #expect(groups.count == 4)
        #expect(groups.contains(["a": "x", "c": 2, "s": 3, "m": 1.5]))
        #expect(groups.contains(["a": 1, "c": 2, "s": 0]))
        #expect(groups.contains(["c": 1, "s": .integer(.max), "m": .double(Double(Int64.max))]))
        #expect(try rows("SELECT a FROM devices GROUP BY a, n").count == 6)
        #expect(try rows("SELECT a FROM devices GROUP BY a") == (try rows("SELECT a FROM devices GROUP BY a")))
    }

    @Test func countsNothingAsNothing() throws {
        #expect(QueryAggregation(try Query(parsing: "SELECT COUNT() AS n FROM devices")).rows().map(\.row) == [["n": 0]])
        #expect(QueryAggregation(try Query(parsing: "SELECT a, COUNT() AS n FROM devices GROUP BY a")).rows().isEmpty)
    }

    @Test func limitsGroups() throws {
        var groups = QueryAggregation(try Query(parsing: "SELECT a FROM devices GROUP BY a"))
        for number in 0..<QueryAggregation.mostGroups { try groups.add(["a": .integer(Int64(number))] as JSONValue) }
        try groups.add(["a": 0] as JSONValue)
        #expect(throws: QueryAggregation.TooManyGroups.self) { try groups.add(["a": -1] as JSONValue) }
    }
}
