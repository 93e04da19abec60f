import Testing

@testable import Agent

@Suite struct AllowListTests {
    @Test(
        arguments: [
            (["22"], "22", "127.0.0.1:22"), (["22"], "23", nil), (["22"], "022", nil), (["22"], "", nil), ([], "22", nil),
            (["ssh=22"], "ssh", "127.0.0.1:22"), (["ssh=22"], "22", nil), (["22=2222"], "22", "127.0.0.1:2222"),
            (["192.0.2.7:554"], "554", "192.0.2.7:554"), (["cam=camera.lan:554"], "cam", "camera.lan:554"),
            (["[::1]:80"], "80", "[::1]:80"), (["30000-30100"], "30000", "127.0.0.1:30000"), (["30000-30100"], "30100", "127.0.0.1:30100"),
            (["30000-30100"], "30101", nil), (["30000-30100"], "30000-30100", nil), (["10.0.0.5:1-9", "127.0.0.1:5"], "5", "127.0.0.1:5"),
            (["10.0.0.5:1-9", "10.0.0.6:9-12"], "9", "10.0.0.5:9"), (["22", "22"], "22", "127.0.0.1:22"), (["22"], "٢٢", nil),
            (["1-65535"], "99999", nil), (["1-65535"], "+22", nil),
            (["bench"], "bench", "the measuring service"), (["bench=22"], "bench", "127.0.0.1:22"), (["1-65535"], "bench", nil),
        ] as [([String], String, String?)])
    func leadsOnlyWhereARuleSays(rules: [String], name: String, target: String?) throws {
        var list = AllowList()
        for rule in rules { try list.add(rule) }
        #expect(list.target(for: name)?.description == target)
    }

    @Test(arguments: [
        "", "0", "65536", "-1", "22-", "-22", "30-20", "1-2-3", "ssh", "=22", "a b=22", "web=80-90", "::1:80", "[::1:80", "host:", "a/b:80",
        "ssh=", "bench ", "x=bench", "22 ", "é=22",
    ])
    func refusesWhatIsNoRule(rule: String) {
        var list = AllowList()
        #expect(throws: AllowList.Malformed.self) { try list.add(rule) }
        #expect(list.isEmpty)
    }

    @Test func refusesANameThatLeadsToTwoPlaces() throws {
        var list = AllowList()
        try list.add("web=80")
        #expect(throws: AllowList.Malformed(reason: "the name web is taken already")) { try list.add("web=81") }
        try list.add("bench")
        #expect(throws: AllowList.Malformed.self) { try list.add("bench=22") }
    }
}
