import Testing

@testable import Wire

@Suite struct ConfigurationTests {
    static let schema = ConfigurationSchema(
        keys: [
            .init("state", .text), .init("workers", .integer(1...64)), .init("drain-seconds", .seconds), .init("largest", .bytes),
            .init("audit", .boolean), .init("mode", .choice(["auto", "blind"])), .list("https", of: .address), .list("hostname"),
        ],
        sections: [
            .init("certificate", hasTitle: true, keys: [.init("file", .text), .init("key", .text)]),
            .init("limits", keys: [.init("streams", .integer(0...1000))]),
        ])

    @Test func readsAWholeFile() throws {
        let text = """
            \u{FEFF}# comment
              state   /var/lib/iot stream  # behind\r
            workers 4
            drain-seconds 1m30s
            largest 1MB
            audit yes
            mode blind
            https [::]:443 127.0.0.1:8443 # two
            https :0
            hostname a "b # c" d#e

            [certificate hub.example]
            file "a \\"b\\" \\\\c"
            key x#y
            [certificate "two words"]
            file z
            [limits] # last
            streams 7
            """
        let read = try Configuration(parsing: text, schema: Self.schema)
        #expect(read.top.text("state") == "/var/lib/iot stream")
        #expect(read.top.integer("workers") == 4)
        #expect(read.top.seconds("drain-seconds") == 90)
        #expect(read.top.bytes("largest") == 1 << 20)
        #expect(read.top.boolean("audit") == true)
        #expect(read.top.text("mode") == "blind")
        #expect(
            read.top.addresses("https").map(\.description)
                == [":443", "127.0.0.1:8443", ":0"].enumerated().map { $0 == 0 ? "[::]:443" : $1 })
        #expect(read.top.texts("hostname") == ["a", "b # c", "d#e"])
        #expect(read.top.text("absent") == nil)
        #expect(read.top.line(of: "https") == 8)
        let certificates = read.sections("certificate")
        #expect(certificates.map(\.title) == ["hub.example", "two words"])
        #expect(certificates[0].text("file") == "a \"b\" \\c")
        #expect(certificates[0].text("key") == "x#y")
        #expect(read.sections("limits").first?.integer("streams") == 7)
    }

    @Test(arguments: [("1MB/s", 1_000_000), ("10Mbit/s", 1_250_000), ("4096", 4096), ("none", 0), ("0", 0)])
    func readsRates(text: String, rate: Int) throws {
        let schema = ConfigurationSchema(keys: [.init("stream-rate", .rate)])
        #expect(try Configuration(parsing: "stream-rate \(text)", schema: schema).top.rate("stream-rate") == rate)
        #expect(throws: ConfigurationError.self) { try Configuration(parsing: "stream-rate \(text)!", schema: schema) }
    }

    @Test(arguments: [("100/s", Frequency(100, seconds: 1)), ("20/min", Frequency(20, seconds: 60)), ("1/h", Frequency(1, seconds: 3600))])
    func readsFrequencies(text: String, frequency: Frequency) throws {
        let schema = ConfigurationSchema(keys: [.init("throttle-queries", .frequency)])
        #expect(try Configuration(parsing: "throttle-queries \(text)", schema: schema).top.frequency("throttle-queries") == frequency)
    }

    @Test(arguments: ["0/s", "1", "/s", "1/", "1/d", "-1/s", "1/s/s", "1000000001/s", "1 /s"])
    func refusesWhatIsNoFrequency(text: String) {
        #expect(Frequency(parsing: text) == nil)
    }

    @Test(arguments: ["", "\n", "# only", " \t\r\n#x\n"]) func takesAnEmptyFile(text: String) throws {
        let read = try Configuration(parsing: text, schema: Self.schema)
        #expect(read.sections.isEmpty)
    }

    static let malformed: [(String, Int, String)] = [
        ("colour red", 1, "unknown key colour"),
        ("\n\nse$cret=abc x", 3, "unknown key"),
        ("[limits]\nfile x", 2, "unknown key file in section [limits]"),
        ("state", 1, "state needs a value"),
        ("state # nothing", 1, "state needs a value"),
        ("state = x", 1, "write state and its value without ="),
        ("state a\nstate b", 2, "state stands in line 1 already"),
        ("state \"a", 1, "quote without an end"),
        ("state \"a\\n\"", 1, "a backslash in quotes goes before a quote or a backslash"),
        ("state \"a\" b", 1, "text after a closing quote"),
        ("hostname \"a\"b", 1, "text after a closing quote"),
        ("state a\0b", 1, "NUL in a value"),
        ("workers 65", 1, "workers takes a number from 1 to 64"),
        ("workers four", 1, "workers takes a number from 1 to 64"),
        ("workers +4", 1, "workers takes a number from 1 to 64"),
        ("drain-seconds 10x", 1, "drain-seconds takes a time such as 10s, 5m or 1h"),
        ("largest 1XB", 1, "largest takes a size such as 4096, 64kB or 1MB"),
        ("audit maybe", 1, "audit takes yes or no"),
        ("mode fast", 1, "mode takes one of auto, blind"),
        ("https ::1", 1, "https takes ADDRESS:PORT"),
        ("https 1.2.3.4:70000", 1, "https takes ADDRESS:PORT"),
        ("[limits", 1, "section without ]"),
        ("[]", 1, "section without a name"),
        ("[limits] x", 1, "text after a section's ]"),
        ("[limits x]", 1, "section [limits] takes no title"),
        ("[certificate]", 1, "section [certificate] needs a title"),
        ("[nothing]", 1, "unknown section"),
        ("[limits]\n[limits]", 2, "section [limits] comes twice"),
    ]

    @Test(arguments: malformed) func namesLineAndReason(text: String, line: Int, reason: String) {
        #expect(throws: ConfigurationError(line: line, reason: reason)) { try Configuration(parsing: text, schema: Self.schema) }
    }

    static let times: [(String, Int?)] = [
        ("0", 0), ("90", 90), ("10s", 10), ("5m", 300), ("1h", 3600), ("2d", 172_800), ("1h30m", 5400),
        ("", nil), ("s", nil), ("1h30", nil), ("-1", nil), ("1.5s", nil), ("99999999999999999999", nil), ("9223372036854775807d", nil),
    ]

    @Test(arguments: times) func readsTimes(text: String, seconds: Int?) {
        #expect(ConfigurationValue.seconds(text) == seconds)
    }

    static let sizes: [(String, Int?)] = [
        ("0", 0), ("4096", 4096), ("1b", 1), ("64k", 65_536), ("64kB", 65_536), ("1MB", 1 << 20), ("2GiB", 2 << 30), ("1T", 1 << 40),
        ("", nil), ("k", nil), ("1.5M", nil), ("1 M", nil), ("1KBB", nil), ("9223372036854775807k", nil), ("-1", nil),
    ]

    @Test(arguments: sizes) func readsSizes(text: String, bytes: Int?) {
        #expect(ConfigurationValue.bytes(text) == bytes)
    }

    static let addresses: [(String, ListenAddress?)] = [
        ("443", ListenAddress(host: "", port: 443)), (":443", ListenAddress(host: "", port: 443)),
        ("*:0", ListenAddress(host: "", port: 0)), ("[::]:1", ListenAddress(host: "::", port: 1)),
        ("127.0.0.1:1", ListenAddress(host: "127.0.0.1", port: 1)), ("localhost:1", ListenAddress(host: "localhost", port: 1)),
        ("", nil), ("h", nil), ("h:", nil), ("h:x", nil), ("::1:443", nil), ("[::1]", nil), ("h:65536", nil), ("a b:1", nil),
        ("h:1:2", nil),
    ]

    @Test(arguments: addresses) func readsAddresses(text: String, address: ListenAddress?) {
        #expect(ListenAddress(parsing: text) == address)
    }
}
