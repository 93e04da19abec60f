import Console
import Testing

@testable import Proxy

@Suite struct PortMappingTests {
    @Test(
        arguments: [
            ("22", [(.preferably(2222), "22")]),
            ("1023", [(.preferably(3223), "1023")]),
            ("1024", [(.preferably(1024), "1024")]),
            ("65535", [(.preferably(65535), "65535")]),
            ("8080", [(.preferably(8080), "8080")]),
            ("9000:80", [(.exactly(9000), "80")]),
            ("22:22", [(.exactly(22), "22")]),
            ("0:80", [(.any, "80")]),
            ("web", [(.any, "web")]),
            ("9000:web", [(.exactly(9000), "web")]),
            ("0:web-1.a_b~c", [(.any, "web-1.a_b~c")]),
            ("web-1", [(.any, "web-1")]),
            ("80-x", [(.any, "80-x")]),
            ("1022-1024", [(.preferably(3222), "1022"), (.preferably(3223), "1023"), (.preferably(1024), "1024")]),
            ("40000-40001:80-81", [(.exactly(40000), "80"), (.exactly(40001), "81")]),
            ("0:80-81", [(.any, "80"), (.any, "81")]),
            ("7-7", [(.preferably(2207), "7")]),
        ] as [(String, [(PortMapping.Local, String)])])
    func meansWhatTheManualSays(_ word: String, _ expected: [(PortMapping.Local, String)]) throws {
        #expect(try PortMapping.parse(word) == expected.map { PortMapping(local: $0.0, remote: $0.1) })
    }

    @Test func aWholeRangeKeepsItsOrder() throws {
        let all = try PortMapping.parse("30000-30010")
        #expect(all.count == 11)
        #expect(all.first == PortMapping(local: .preferably(30000), remote: "30000"))
        #expect(all.last == PortMapping(local: .preferably(30010), remote: "30010"))
    }

    @Test(arguments: [
        "", ":", "22:", ":22", "0", "1:0", "65536", "99999999999999999999", "70000:22", "22:70000", "10-9", "1-2:1-3", "1-2:web", "web:22",
        "127.0.0.1:2222:22", "a/b", "a b", "1-65535", "0-3:80-83", "80-70000", "+22", "Ä",
    ])
    func refusesEverythingElse(_ word: String) {
        #expect(throws: PortMapping.Malformed.self) { try PortMapping.parse(word) }
    }

    @Test func aCommandHasSoManyPortsAndNoMore() throws {
        #expect(try ForwardRole.mappings(["1-4096"]).count == 4096)
        #expect(throws: Failure.self) { try ForwardRole.mappings(["1-4096", "5000"]) }
    }

    @Test(arguments: [("22", "22"), ("web", "web"), ("1-2", nil), ("1:2", nil), ("", nil), ("0", nil)])
    func connectTakesOnePortOrName(_ word: String, _ expected: String?) {
        #expect((try? ConnectRole.remote(word)) == expected)
    }

    @Test(arguments: [
        ("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80"), ("localhost", "127.0.0.1:80"), ("*", "[::]:80"),
    ])
    func bindTakesAddresses(_ text: String, _ expected: String) throws {
        #expect(try #require(BindAddress(text)).at(80).description == expected)
    }

    @Test func bindTakesNoNames() { #expect(BindAddress("device.example") == nil) }
}
