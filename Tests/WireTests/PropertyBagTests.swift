import Testing

@testable import Wire

@Suite struct PropertyBagTests {
    static let bags: [(String, [PropertyBag.Property]?)] = [
        ("", []),
        ("?", []),
        ("/", []),
        ("a=b", [.init("a", "b")]),
        ("?a=b&c=d/", [.init("a", "b"), .init("c", "d")]),
        ("k&e=", [.init("k", nil), .init("e", "")]),
        ("a=1&a=2&b=3", [.init("a", "2"), .init("b", "3")]),
        ("a=b=c", [.init("a", "b=c")]),
        ("a=x+y", [.init("a", "x+y")]),
        ("t=2030-01-01T00:00:00Z;x/y", [.init("t", "2030-01-01T00:00:00Z;x/y")]),
        ("%24.mid=m%201&$.cid=c", [.init("$.mid", "m 1"), .init("$.cid", "c")]),
        ("%C3%A9=%C3%BC", [.init("é", "ü")]),
        ("a&&b", [.init("a", nil), .init("b", nil)]),
        ("a=%", nil), ("a=%4", nil), ("%zz", nil), ("a=%FF", nil),
    ]

    @Test(arguments: bags) func readsBagsOfEveryClient(text: String, expected: [PropertyBag.Property]?) {
        #expect(PropertyBag(parsing: text)?.properties == expected)
    }

    /// mqtt-device 9.
    static let python = """
        %24.on=out1&%24.mid=m%201&%24.cid=c&%24.uid=u&%24.ct=application%2Fjson&%24.ce=utf-8&%24.exp=2030-01-01T00%3A00%3A00Z\
        &a%20b=c%2Fd%2Be&n=5&z=&%C3%A9=%C3%BC
        """

    @Test func writesTheExampleByteForByte() throws {
        let bag = try #require(PropertyBag(parsing: Self.python))
        #expect(bag.text == Self.python)
        #expect(bag[.contentType] == "application/json")
        #expect(bag[.outputName] == "out1")
        #expect(bag["a b"] == "c/d+e")
        #expect(bag.application.map(\.key) == ["a b", "n", "z", "é"])
    }

    @Test func keepsReservedKeysFromTheApplication() throws {
        let bag = try #require(PropertyBag(parsing: "iothub-ack=full&iothub-operation=x&$.unknown=1&mine=2"))
        #expect(bag.application == [.init("mine", "2")])
        #expect(bag[PropertyBag.acknowledgement] == "full")
    }

    @Test func writesNullAndEmptyApart() {
        #expect(PropertyBag([.init("a", nil), .init("b", "")]).text == "a&b=")
    }

    @Test func readsAsManyPropertiesAsATopicHolds() throws {
        let text = (0..<9000).map { "\($0)=" }.joined(separator: "&")
        #expect(try #require(PropertyBag(parsing: text)).properties.count == 9000)
    }
}
