import Registry
import Testing
import Wire

@Suite struct DigitalTwinTests {
    private func make(desired: JSONValue = [:], reported: JSONValue = [:]) throws -> DigitalTwin {
        let hub = try Hub()
        try hub.put(id("d")) { $0.desired = desired.object }
        try hub.registry.perform(.report(id("d"), try #require(reported.object), ifVersion: nil), now: hub.now)
        return DigitalTwin(try hub.registry.twin(id("d")))
    }

    @Test func showsWhatTheDeviceSaysAndWhatIsWanted() throws {
        let twin = try make(
            desired: ["t": 2, "c": ["__t": "c", "x": 3], "only": 4],
            reported: ["t": ["value": 1, "ac": 200, "av": 1], "plain": ["value": 5], "c": ["__t": "c", "y": 6]]
        ).json
        #expect(twin["$dtId"] == "d" && twin["t"] == 1 && twin["plain"] == ["value": 5] && twin["only"] == nil)
        #expect(twin["$metadata"]?["t"]?["desiredValue"] == 2 && twin["$metadata"]?["t"]?["ackCode"] == 200)
        #expect(twin["$metadata"]?["only"]?["desiredValue"] == 4 && twin["$metadata"]?["c"] == nil)
        #expect(twin["c"]?["y"] == 6 && twin["c"]?["__t"] == nil && twin["c"]?["x"] == nil)
        #expect(twin["c"]?["$metadata"]?["x"]?["desiredValue"] == 3)
    }

    @Test func turnsAPatchIntoDesiredProperties() throws {
        let twin = try make(desired: ["o": ["a": 1]])
        let change = try twin.change([
            ["op": "add", "path": "/p", "value": 1], ["op": "replace", "path": "/c/q", "value": ["r": 2]],
            ["op": "remove", "path": "/c/old"], ["op": "add", "path": "/o/b~0~1", "value": true],
            ["op": "add", "path": "/new", "value": ["$metadata": [:], "s": 1]], ["op": "remove", "path": "/gone"],
        ])
        let wanted: JSONValue = [
            "p": 1, "c": ["__t": "c", "q": ["r": 2], "old": nil], "o": ["b~/": true], "new": ["s": 1, "__t": "c"], "gone": nil,
        ]
        #expect(change == TwinChange(desired: .merge(try #require(wanted.object))))
    }

    @Test(
        arguments: [
            [:], [], [["op": "test", "path": "/a", "value": 1]], [["op": "add", "path": "/a"]], [["op": "add", "path": "", "value": 1]],
            [["op": "add", "path": "/a/", "value": 1]], [["op": "add", "path": "/$a", "value": 1]], [["path": "/a", "value": 1]],
            [["op": "add", "path": "/a~", "value": 1]], [5],
        ] as [JSONValue])
    func refusesPatches(_ patch: JSONValue) throws {
        let twin = try make()
        #expect(throws: RegistryError.self) { try twin.change(patch) }
    }

    @Test(arguments: [
        ("file:a", ["a"]), ("a/b/", ["a", "b"]), ("file:///a/b?sv=1&sig=/../x", ["a", "b"]), ("file:/a", ["a"]), ("A-1._x", ["A-1._x"]),
        ("", nil), ("/", nil), ("..", nil), ("a/../b", nil), ("/etc", nil), ("file:////etc", nil), ("a//b", nil), (".a", nil), ("a b", nil),
        ("https://x/y", nil), ("file:", nil), ("a\\b", nil), ("a\0", nil), ("?x", nil), ("a/b/c/d/e/f/g/h/i", nil), ("é", nil),
    ])
    func findsTheContainersOfTheHubItself(_ text: String, _ names: [String]?) {
        #expect(Transfer.segments(ofContainer: text) == names)
    }
}
