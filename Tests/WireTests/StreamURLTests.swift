import Testing
import Wire

@Suite struct StreamURLTests {
    @Test(
        arguments: [
            ("hub.example.net", "hub.example.net", nil as UInt16?), ("hub.example.net:8443", "hub.example.net", 8443),
            ("[::1]:443", "::1", 443),
            ("[2001:db8::1]", "2001:db8::1", nil), ("::1", "::1", nil), ("192.0.2.1:1", "192.0.2.1", 1), ("a.", "a.", nil),
            ("under_score:65535", "under_score", 65535), ("[::ffff:192.0.2.1]:22", "::ffff:192.0.2.1", 22),
        ] as [(String, String, UInt16?)])
    func readsHostAndPort(_ text: String, _ host: String, _ port: UInt16?) throws {
        let place = try #require(HostPort(parsing: text))
        #expect(place.host == host)
        #expect(place.port == port)
        #expect(HostPort(parsing: place.description) == place)
    }

    @Test(arguments: [
        "", ":443", "a:", "a:0", "a:65536", "a:+1", "a:1x", "a:000001", "a b", "a/b", "u@a", "a,b", ".a", "a..b", "[::1", "::1]",
        "[::1]443",
        "[a]:1", "[]:1", "[fe80::1%eth0]:1", "a\0", "ä", "a?b", "a#b", "a\\b", "[::1]:", "[::1\0]",
        String(repeating: "a", count: 64), String(repeating: "a.", count: 127) + "a",
    ])
    func refusesWhatNamesNoHost(_ text: String) {
        #expect(HostPort(parsing: text) == nil)
    }

    @Test(
        arguments: [
            ("wss://hub.example.net:443/bridges/x", "hub.example.net", 443 as UInt16, "/bridges/x"), ("wss://h", "h", 443, "/"),
            ("WSS://[::1]:9/a?b", "::1", 9, "/a?b"), ("wss://h?q", "h", 443, "/?q"), ("wss://h:1/d/dev%252B1", "h", 1, "/d/dev%252B1"),
        ] as [(String, String, UInt16, String)])
    func readsAStreamURL(_ text: String, _ host: String, _ port: UInt16, _ path: String) throws {
        let url = try #require(StreamURL(parsing: text))
        #expect(url.host == host)
        #expect(url.port == port)
        #expect(url.path == path)
        #expect(url.isSecure)
        #expect(StreamURL(parsing: url.description, portRequired: true) == url)
    }

    @Test(arguments: [
        "", "wss", "wss:", "wss:/h", "wss://", "wss:///p", "ws://h:1/", "https://h/", "wss://u@h/", "wss://h/a b", "wss://h/#f",
        "wss://h:x/",
        "wss://h/ä", "//h/", "wss://h\\p", "wss://h/\r\nX: y",
    ])
    func refusesOtherURLs(_ text: String) {
        #expect(StreamURL(parsing: text) == nil)
    }

    @Test func aPortCanBeRequiredAndPlainAllowed() {
        #expect(StreamURL(parsing: "wss://h/p", portRequired: true) == nil)
        #expect(StreamURL(parsing: "ws://h/p", allowPlain: true) == StreamURL(host: "h", port: 80, path: "/p", isSecure: false))
    }
}
