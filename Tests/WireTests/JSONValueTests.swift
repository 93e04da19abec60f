import Bytes
import Testing

@testable import Wire

@Suite struct JSONValueTests {
    static let documents: [(String, JSONValue)] = [
        ("null", nil), ("true", true), (" false\n", false), ("0", 0), ("-1", -1),
        ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)), ("9007199254740993", 9_007_199_254_740_993),
        ("1.5", 1.5), ("1e2", .double(100)), ("-0.0", .double(-0.0)),
        ("\"\"", ""), ("\"a\\u0000b\"", "a\0b"), ("\"\\ud83d\\ude00\"", "😀"), ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\u{8}\u{c}\n\r\t"),
        ("[]", []), ("[1,[2],{}]", [1, [2], [:]]),
        ("{\"b\":1,\"a\":{\"c\":null}}", ["b": 1, "a": ["c": nil]]),
        ("{\"\":\"[[[[{{{{\"}", ["": "[[[[{{{{"]),
    ]

    @Test(arguments: documents) func readsDocumentsAndWhatItWritesOfThem(text: String, value: JSONValue) throws {
        #expect(try JSONValue.parse(text) == value)
        for style in [JSONStyle.compact, .pretty] {
            #expect(try JSONValue.parse(value.text(style: style)) == value)
            #expect(try JSONValue.parse(value.bytes(style: style, sorted: true)) == value)
        }
    }

    static let malformed: [(String, JSONError)] = [
        ("", .malformed(line: 1, column: 1)),
        ("{\"a\":1,\n\"a\":2}", .duplicateKey(line: 2, column: 3)),
        ("{\"\\u0000\":1}", .nulInKey(line: 1, column: 9)),
        ("[1,2\n\n,}", .malformed(line: 3, column: 2)),
        ("92233720368547758080", .numberOutOfRange(line: 1, column: 20)),
        ("1e999", .numberOutOfRange(line: 1, column: 5)),
        (String(repeating: "[", count: 65), .tooDeep(limit: 64)),
        (String(repeating: "{\"a\":", count: 100), .tooDeep(limit: 64)),
        ("{\"\u{e9}\":1,\"e\u{301}\":2}", .duplicateKey(line: 1, column: 1)),
    ]

    @Test(arguments: malformed) func tellsWhereAndWhy(text: String, error: JSONError) {
        #expect(throws: error) { try JSONValue.parse(text) }
    }

    @Test(arguments: [
        "{", "[1,]", "nul", "01", "1 2", "{\"a\" 1}", "{a:1}", "'a'", "\"\\x\"", "\"a\nb\"", "\"\\ud800\"", "[1]]", "\0", "+1", "NaN",
    ])
    func refusesWhatIsNoJSON(text: String) {
        #expect(throws: JSONError.self) { try JSONValue.parse(text) }
    }

    @Test func refusesWhatIsNotUTF8() {
        for bytes in [[0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0xEF, 0xBB, 0xBF, 0x31]] as [[UInt8]] {
            #expect(throws: JSONError.self) { try JSONValue.parse(bytes) }
        }
    }

    @Test func respectsItsLimits() throws {
        #expect(throws: JSONError.tooLarge(limit: 3)) { try JSONValue.parse("1234", limit: 3) }
        #expect(throws: JSONError.tooDeep(limit: 2)) { try JSONValue.parse("[[[]]]", depth: 2) }
        #expect(try JSONValue.parse("[[],[],[\"\\\"[[[\"]]", depth: 2).array?.count == 3)
    }

    @Test func keepsTheOrderOfMembersOrSortsThem() throws {
        let value = try JSONValue.parse("{\"z\":1,\"a\":{\"y\":2,\"b\":[3,{}]},\"m\":\"\\u0001/é\"}")
        #expect(value.text() == "{\"z\":1,\"a\":{\"y\":2,\"b\":[3,{}]},\"m\":\"\\u0001/é\"}")
        #expect(value.text(sorted: true) == "{\"a\":{\"b\":[3,{}],\"y\":2},\"m\":\"\\u0001/é\",\"z\":1}")
        let pretty = "{\n  \"z\": 1,\n  \"a\": {\n    \"y\": 2,\n    \"b\": [\n      3,\n      {}\n    ]\n  },\n  \"m\": \"\\u0001/é\"\n}"
        #expect(value.text(style: .pretty) == pretty)
    }

    @Test func writesNullForWhatNumbersCannotSay() {
        #expect(JSONValue.array([.double(.infinity), .double(.nan), .double(1e300)]).text() == "[null,null,1e+300]")
    }

    @Test func givesAccessByNameAndPlace() {
        var value: JSONValue = ["a": ["b": [1, 2.0, "x", true, nil]]]
        let list = value["a"]?["b"]
        #expect(list?[0]?.integer == 1)
        #expect(list?[1]?.integer == 2)
        #expect(list?[0]?.double == 1)
        #expect(list?[2]?.string == "x")
        #expect(list?[3]?.bool == true)
        #expect(list?[4]?.isNull == true)
        #expect(list?[5] == nil)
        #expect(value["x"]?["y"] == nil)
        value["a"]?["c"] = 7
        #expect(value["a"]?["c"]?.integer == 7)
        value["a"] = nil
        #expect(value == [:])
        #expect(JSONValue.object(of: ["a": 1, "b": nil]).text() == "{\"a\":1}")
    }

    @Test func findsMembersOfLongObjects() {
        var object = JSONObject()
        for index in 0..<1000 { object["k\(index)"] = .integer(Int64(index)) }
        #expect(object.removeValue(forKey: "k500") == 500)
        #expect(object["k500"] == nil)
        #expect(object["k999"] == 999)
        object["k0"] = "again"
        #expect(object["k0"] == "again")
        #expect(object.count == 999)
        #expect(object.keys.last == "k999")
    }
}
