import Query
import Testing
import Wire

@Suite struct QueryParsingTests {
    @Test(arguments: [
        "SELECT * FROM devices", "select * from devices;", "  SELECT\n*\tFROM devices  ", "SELECT * FROM devices d",
        "SELECT * FROM devices AS d",
        "SELECT * FROM devices.modules WHERE moduleId = 'm'", "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'j'",
        "SELECT TOP 5 * FROM devices", "SELECT TOP 5 deviceId, tags.a AS a FROM devices", "SELECT COUNT() FROM devices",
        "SELECT COUNT(*) AS n, AVG(tags.a) AS m FROM devices", "SELECT tags.a, COUNT() AS n FROM devices GROUP BY tags.a",
        "SELECT tags.a FROM devices GROUP BY tags.a, tags.b", "SELECT d.tags.a FROM devices d WHERE d.tags.a = 1 GROUP BY d.tags.a",
        "SELECT * FROM devices WHERE tags.[[odd name]] = 1 AND configurations[[c-1]].status = 'Applied'",
        #"SELECT * FROM devices WHERE tags["odd name"]['x'] = 1 AND properties.reported.$version >= 2"#,
        "SELECT * FROM devices WHERE NOT (a = 1 OR b = 2) AND c NIN ['x', -1, 1.5e3, 0xFF, null, true, [1, [2]]]",
        "SELECT * FROM devices WHERE a NOT IN [] AND b IN ['x']", "SELECT * FROM devices WHERE (tags.a + 1) * -2 / 3 % 4 - 1 <> 0",
        "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'a') AND starts_with(deviceId, \"b\") AND is_defined(tags.a)",
        "SELECT * FROM devices WHERE a = 'it''s' AND b = \"say \"\"hi\"\"\" AND c = '\\u00e9\\ud83d\\ude00\\'\\/'",
        "SELECT * FROM devices WHERE capabilities.iotEdge AND true", "SELECT * FROM devices WHERE tags.select = 1 AND tags.1a = 2",
        "SELECT * FROM devices WHERE a=1. AND b=.5", "SELECT * FROM devices WHERE undefined = null",
        "SELECT * FROM devices WHERE tags.größe > 1",
    ])
    func takesTheGrammar(text: String) throws {
        #expect(throws: Never.self) { try Query(parsing: text) }
    }

    /// A text, and where it goes wrong.
    @Test(
        arguments: [
            ("", 1), ("SELECT", 7), ("SELECT * FROM", 14), ("SELECT * FROM hubs", 15), ("SELECT FROM devices", 8),
            ("SELECT * FROM devices WHERE", 28), ("SELECT * FROM devices WHERE 5", 29), ("SELECT * FROM devices WHERE a + 1", 29),
            ("SELECT * FROM devices WHERE a =", 32), ("SELECT * FROM devices WHERE a = 1 b", 35),
            ("SELECT * FROM devices WHERE a = 'x", 33),
            ("SELECT * FROM devices WHERE (a = 1", 35), ("SELECT * FROM devices WHERE a IN 'x'", 34),
            ("SELECT * FROM devices WHERE a IN ['x'", 38), ("SELECT * FROM devices WHERE fly(a)", 29),
            ("SELECT * FROM devices WHERE IS_DEFINED()", 29), ("SELECT * FROM devices WHERE STARTS_WITH(a)", 29),
            ("SELECT * FROM devices WHERE COUNT() > 1", 29), ("SELECT * FROM devices ORDER BY deviceId", 23),
            ("SELECT DISTINCT tags.a FROM devices", 8), ("SELECT * FROM devices JOIN d", 23), ("SELECT TOP 0 * FROM devices", 12),
            ("SELECT TOP x * FROM devices", 12), ("SELECT * FROM devices GROUP BY tags.a", 38), ("SELECT tags.a, COUNT() FROM devices", 8),
            ("SELECT SIN(tags.a) FROM devices", 8), ("SELECT jobId FROM devices.jobs", 8), ("SELECT * FROM devices WHERE a. = 1", 31),
            ("SELECT * FROM devices WHERE a[[x = 1", 30), ("SELECT * FROM devices WHERE a = 0x", 33),
            ("SELECT * FROM devices WHERE a = 1e", 33), ("SELECT * FROM devices WHERE a = 12ab", 35),
            ("SELECT * FROM devices WHERE a = '\\x'", 34), ("SELECT * FROM devices WHERE a = '\\ud800'", 34),
            ("SELECT * FROM devices WHERE é = 'ü' ~", 37), ("SELECT * FROM devices WHERE a = 1 = 2", 35),
            ("SELECT * FROM devices WHERE a = 1 OR 2", 38), ("SELECT *, deviceId FROM devices", 9),
        ] as [(String, Int)])
    func namesThePlaceOfAMistake(text: String, position: Int) {
        let error = #expect(throws: QuerySyntaxError.self) { try Query(parsing: text) }
        #expect(error?.position == position, "\(text): \(error?.description ?? "")")
    }

    @Test func limitsLengthAndNesting() throws {
        func nested(_ levels: Int) -> String {
            "SELECT * FROM devices WHERE " + String(repeating: "(", count: levels) + "a=1" + String(repeating: ")", count: levels)
        }
        #expect(throws: Never.self) { try Query(parsing: nested(50)) }
        for text in [
            nested(51), nested(4000), "SELECT * FROM devices WHERE " + String(repeating: "NOT ", count: 2000) + "a",
            "SELECT * FROM devices WHERE a = " + String(repeating: "- ", count: 4000) + "1",
            "SELECT * FROM devices WHERE a IN " + String(repeating: "[", count: 4000),
            "SELECT * FROM devices WHERE a = " + String(repeating: "ABS(", count: 2000), String(repeating: " ", count: 8193),
        ] {
            #expect(throws: QuerySyntaxError.self) { try Query(parsing: text) }
        }
        let long = "SELECT * FROM devices WHERE " + Array(repeating: "a", count: 1600).joined(separator: " OR ")
        #expect(try Query(parsing: long).matches(["a": true] as JSONValue))
    }

    /// Which devices a condition can be about.
    @Test(
        arguments: [
            ("deviceId = 'a'", .devices(["a"])), ("'a' = deviceId AND tags.x = 1", .devices(["a"])),
            ("deviceId IN ['b', 'a', 'b', 5]", .devices(["a", "b"])), ("deviceId IN ['a','b'] AND deviceId = 'b'", .devices(["b"])),
            ("STARTS_WITH(deviceId, 'line-')", .prefix("line-")), ("STARTS_WITH(deviceId, 'no good')", .devices([])),
            ("STARTS_WITH(deviceId, 'l') AND deviceId = 'x'", .devices(["x"])), ("deviceId = 'a' OR tags.x = 1", .all),
            ("NOT deviceId = 'a'", .all), ("deviceId > 'a'", .all), ("tags.deviceId = 'a'", .all),
            ("devices.deviceId = 'a'", .devices(["a"])),
        ] as [(String, QueryScope)])
    func knowsWhomAConditionIsAbout(condition: String, scope: QueryScope) throws {
        #expect(try Query(parsing: "SELECT * FROM devices WHERE \(condition)").scope == scope)
    }

    @Test func readsConditionsAlone() throws {
        #expect(try Query.parse(condition: "") == nil)
        #expect(try Query.parse(condition: "*")?.condition == nil)
        #expect(try Query.parse(condition: "tags.env='prod'")?.matches(["tags": ["env": "prod"]] as JSONValue) == true)
        #expect(try Query.parse(condition: "FROM devices.modules WHERE moduleId = 'm'")?.source == .modules)
        #expect(throws: QuerySyntaxError.self) { try Query.parse(condition: "* AND a = 1") }
        #expect(throws: QuerySyntaxError.self) { try Query.parse(condition: "tags.env = ") }
    }
}
