import Testing
import Wire

@testable import Dialing

@Suite struct ProxyChoiceTests {
    @Test(
        arguments: [
            ("http://proxy.example:3128", "proxy.example:3128", nil), ("proxy.example:3128", "proxy.example:3128", nil),
            ("http://proxy.example", "proxy.example:80", nil), ("http://proxy.example:3128/", "proxy.example:3128", nil),
            ("http://user:pass@proxy.example:3128", "proxy.example:3128", "dXNlcjpwYXNz"),
            ("http://user@proxy.example:3128", "proxy.example:3128", "dXNlcjo="),
            ("HTTP://us%40er:p%3Aw@[::1]:3128", "[::1]:3128", "dXNAZXI6cDp3"),
        ] as [(String, String, String?)])
    func readsAProxy(text: String, place: String, credentials: String?) throws {
        let proxy = try ProxyServer(parsing: text)
        #expect(proxy.description == place)
        #expect(proxy.credentials == credentials)
    }

    @Test(arguments: ["", "https://proxy.example:3128", "socks5://proxy.example", "http://", "http://a b:1", "http://u%3Ax:p@h:1", "h:0"])
    func refusesWhatIsNoProxyAndKeepsItsPassword(text: String) {
        #expect(throws: DialError.self) { try ProxyServer(parsing: text) }
        do { _ = try ProxyServer(parsing: "socks5://me:secret@h:1") } catch { #expect(!"\(error)".utf8.elementsEqual("secret".utf8)) }
    }

    @Test func neverPrintsThePassword() throws {
        let proxy = try ProxyServer(parsing: "http://user:secret@proxy.example:3128")
        var text = ""
        dump(proxy, to: &text)
        for shown in ["\(proxy)", String(reflecting: proxy), text] {
            #expect(!shown.contains("secret") && !shown.contains("dXNlc"))
        }
    }

    @Test(
        arguments: [
            (["https_proxy": "http://one:1"], "one:1"), (["HTTPS_PROXY": "http://one:1"], "one:1"),
            (["https_proxy": "http://one:1", "HTTPS_PROXY": "http://two:2", "all_proxy": "http://three:3"], "one:1"),
            (["https_proxy": "", "ALL_PROXY": "http://three:3"], "three:3"), (["http_proxy": "http://one:1"], nil), ([:], nil),
            (["https_proxy": "http://one:1", "no_proxy": "*"], nil), (["https_proxy": "http://one:1", "NO_PROXY": "example.net"], nil),
            (["https_proxy": "http://one:1", "no_proxy": "other.example", "NO_PROXY": "*"], "one:1"),
        ] as [([String: String], String?)])
    func choosesByTheUsualVariables(variables: [String: String], proxy: String?) throws {
        let choice = try ProxyChoice { variables[$0] }
        #expect(choice.proxy(for: HostPort(host: "hub.example.net", port: 443))?.description == proxy)
    }

    @Test func namesTheVariableThatIsWrong() {
        #expect(throws: DialError.badSetting("HTTPS_PROXY: the proxy has no valid host and port: write it like http://proxy.example:3128"))
        {
            try ProxyChoice { $0 == "HTTPS_PROXY" ? "http://:1" : nil }
        }
    }

    @Test func theOptionGoesBeforeTheEnvironmentAndItsExceptions() throws {
        let choice = try ProxyChoice(option: "http://one:1") { $0 == "no_proxy" ? "*" : "http://two:2" }
        #expect(choice.proxy(for: HostPort(host: "hub", port: 443))?.description == "one:1")
    }

    @Test(arguments: [
        ("hub.example.net", "hub.example.net", true), ("example.net", "hub.example.net", true), (".example.net", "hub.example.net", true),
        ("*.example.net", "hub.example.net", true), ("ample.net", "hub.example.net", false), ("HUB.example.NET.", "hub.Example.net", true),
        ("hub.example.net", "example.net", false), ("example.net:443", "hub.example.net", true),
        ("example.net:444", "hub.example.net", false),
        ("a, b  example.net", "example.net", true), ("10.0.0.0/8", "10.9.8.7", true), ("10.0.0.0/8", "11.9.8.7", false),
        ("10.0.0.0/8", "hub.example", false), ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.10", false),
        ("fd00::/8", "fd12::1", true), ("fd00::/8", "fe80::1", false), ("::1", "0:0::1", true), ("[::1]:443", "::1", true),
        ("0.0.0.0/0", "203.0.113.9", true), ("10.0.0.0/33", "10.0.0.1", false), ("", "hub", false), ("/", "hub", false),
    ])
    func honoursExceptions(list: String, host: String, isCovered: Bool) {
        let place = HostPort(host: host, port: 443)
        #expect(ProxyException.list(list).contains { $0.covers(place) } == isCovered)
    }
}
