import Testing

@testable import Wire

@Suite struct SASTokenTests {
    static let counting = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    static let digits = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

    static func key(_ base64: String) throws -> SymmetricKey { try #require(SymmetricKey(base64: base64)) }

    /// mqtt-device 4.3: resource, policy, token.
    static let written: [(String, String?, String)] = [
        (
            "hub.example.net/devices/dev1", nil,
            "sr=hub.example.net%2Fdevices%2Fdev1&sig=UJxvNwcf8mu9IcN8L%2FGR68ZPAVJP46kaOkv%2FKZGVYfI%3D&se=1900000000"
        ),
        (
            "hub.example.net/devices/dev1/modules/mod1", nil,
            """
            sr=hub.example.net%2Fdevices%2Fdev1%2Fmodules%2Fmod1&sig=m4mP%2FbNl8aCQWD9hdO1V9nNhkinQllH0dH7KttYAN4U%3D\
            &se=1900000000
            """
        ),
        (
            "hub.example.net", "iothubowner",
            "sr=hub.example.net&sig=3FUf0sO%2B%2FMBv%2Bt3cOggdIJIzcP5bedymTMVEJZ40VMA%3D&se=1900000000&skn=iothubowner"
        ),
    ]

    @Test(arguments: written) func writesAndVerifiesThePublishedTokens(resource: String, policy: String?, rest: String) throws {
        let key = try Self.key(Self.counting), text = "SharedAccessSignature " + rest
        #expect(SASToken.make(resource: resource, key: key, expiry: 1_900_000_000, policy: policy) == text)
        let token = try SASToken(parsing: text)
        #expect(token.verify(key: key))
        #expect(token.policy == policy)
        #expect(token.expiry == 1_900_000_000)
        #expect(token.covers(resource: resource))
        #expect(!token.verify(key: try Self.key(Self.digits)))
    }

    /// attestation 3, device-streams 3.3 and 4.1: `sr` as transmitted, and the signature.
    static let vectors = [
        ("hub.example.net%2Fdevices%2Fd1", "MddZw4bQa6fx7pbNRSJdVtvvxPJyO+p/HWz/C2N08Dg="),
        ("hub.example.net", "JsaJO5gTLF8mah9LxN0bGUcqp1KDFGr998P4Kix6V8A="),
        ("hub.example.net/devices/dev1", "7zKg0lv1kxxjkWSUjp9jepCLLvQJldTDTchNxMnoXDA="),
        ("hub.example.net%2Fdevices%2Fdev1", "ncXfJXbeyTiRLDz9kvk1ElOCiWr2fUvGO9PPFIYKEFA="),
    ]

    @Test(arguments: vectors) func verifiesOverTheResourceAsTransmitted(resource: String, signature: String) throws {
        let key = try Self.key(Self.digits)
        let escaped = PercentCoding.encode(signature, leaving: .unreserved)
        let orders = [
            "sr=\(resource)&sig=\(escaped)&se=1893456000", "se=1893456000&sig=\(signature)&sr=\(resource)&skn=",
            "skn=service&sr=\(resource)&se=1893456000&sig=\(escaped)",
        ]
        for order in orders { #expect(try SASToken(parsing: "SharedAccessSignature " + order).verify(key: key)) }
        for wrong in ["sr=\(resource)x&sig=\(escaped)&se=1893456000", "sr=\(resource)&sig=\(escaped)&se=1893456001"] {
            #expect(try !SASToken(parsing: "SharedAccessSignature " + wrong).verify(key: key))
        }
    }

    @Test func verifiesWhatWasSignedInAnotherEncoding() throws {
        let key = try Self.key(Self.digits)
        for signed in ["hub%2Fdevices%2Fa%40b", "hub%2fdevices%2fa%40b"] {
            let signature = PercentCoding.encode(Base64.encode(key.authenticate("\(signed)\n5".utf8)), leaving: .unreserved)
            for sent in ["hub%2Fdevices%2Fa%40b", "hub%2fdevices%2fa%40b", "hub/devices/a@b"] {
                #expect(try SASToken(parsing: "SharedAccessSignature sr=\(sent)&sig=\(signature)&se=5").verify(key: key))
            }
        }
    }

    static let signature = String(repeating: "A", count: 43) + "%3D"
    static let malformed: [(String, SASError)] = [
        ("", .notAToken),
        ("SharedAccessSignature", .notAToken),
        ("sharedaccesssignature sr=h&sig=\(signature)&se=1", .notAToken),
        ("SharedAccessSignature ", .missing("sr")),
        ("SharedAccessSignature  sr=h&sig=\(signature)&se=1", .notAToken),
        ("SharedAccessSignature sr=h&sig=\(signature)&se=1&skn=p ", .notAToken),
        ("SharedAccessSignature sr=h&sig=\(signature)&se=1\r\nx: y", .notAToken),
        ("SharedAccessSignature sr=é&sig=\(signature)&se=1", .notAToken),
        ("SharedAccessSignature sig=\(signature)&se=1", .missing("sr")),
        ("SharedAccessSignature sr=&sig=\(signature)&se=1", .missing("sr")),
        ("SharedAccessSignature sr=h&se=1", .missing("sig")),
        ("SharedAccessSignature sr=h&sig=\(signature)", .missing("se")),
        ("SharedAccessSignature sr&sig=\(signature)&se=1", .malformed("sr")),
        ("SharedAccessSignature sr=%zz&sig=\(signature)&se=1", .malformed("sr")),
        ("SharedAccessSignature sr=h&sig=AAAA&se=1", .malformed("sig")),
        ("SharedAccessSignature sr=h&sig=\(signature)%3D&se=1", .malformed("sig")),
        ("SharedAccessSignature sr=h&sig=\(signature)&se=-1", .malformed("se")),
        ("SharedAccessSignature sr=h&sig=\(signature)&se=1.5", .malformed("se")),
        ("SharedAccessSignature sr=h&sig=\(signature)&se=99999999999999999999", .malformed("se")),
        ("SharedAccessSignature sr=h&sig=\(signature)&se=1&se=2", .duplicate("se")),
        ("SharedAccessSignature sr=h&sr=h&sig=\(signature)&se=1", .duplicate("sr")),
        ("SharedAccessSignature sr=h&sig=\(signature)&se=1&skn=%f", .malformed("skn")),
    ]

    @Test(arguments: malformed) func namesWhatIsWrongWithAText(text: String, error: SASError) {
        #expect(throws: error) { try SASToken(parsing: text) }
    }

    static let covering: [(String, String, Bool)] = [
        ("hub%2Fdevices%2Fa", "hub/devices/a", true),
        ("HUB%2Fdevices%2Fa", "hub/devices/a", true),
        ("hub", "hub/devices/a", true),
        ("hub", "HUB", true),
        ("hub/", "hub/devices/a", true),
        ("hub/devices", "hub/devices/a", true),
        ("hub/devices/a", "hub/devices/a/modules/m", true),
        ("hub%2Fdevices%2Fa/", "hub/devices/a", true),
        ("hub/devices/A", "hub/devices/a", false),
        ("hub/dev", "hub/devices/a", false),
        ("hub/device", "hub/devices/a", false),
        ("hub/devices/a", "hub/devices/ab", false),
        ("hub/devices/a/modules/m", "hub/devices/a", false),
        ("hub/devices/a/modules/m", "hub/devices/a/modules/n", false),
        ("hub//devices", "hub/devices/a", false),
        ("hub//", "hub/devices/a", false),
        ("other/devices/a", "hub/devices/a", false),
        ("hubx", "hub", false),
        ("%2Fdevices", "hub/devices/a", false),
        ("hub%2Fdevices%2Fa%2540b", "hub/devices/a@b", true),  // encoded twice
        ("hub%2Fdevices%2Fa%2525b", "hub/devices/a%b", true),
        ("hub%2Fdevices%2Fa%2540b", "hub/devices/a%40b", true),  // encoded once
        ("hub%2Fdevices%2Fa%252540b", "hub/devices/a@b", false),
        ("hub%2Fdevices%2F50%25", "hub/devices/50%", true),
    ]

    @Test(arguments: covering) func coversByWholeSegments(written: String, resource: String, expected: Bool) throws {
        let token = try SASToken(parsing: "SharedAccessSignature sr=\(written)&sig=\(Self.signature)&se=1")
        #expect(token.covers(resource: resource) == expected)
    }

    @Test(arguments: [(1299, false), (1300, false), (1301, true), (4600, true), (0, false)] as [(Int64, Bool)])
    func expiresWithTolerance(now: Int64, expected: Bool) throws {
        let token = try SASToken(parsing: "SharedAccessSignature sr=h&sig=\(Self.signature)&se=1000")
        #expect(token.isExpired(now: now) == expected)
    }

    @Test func toleratesAnExpiryAtTheEndOfTime() throws {
        let token = try SASToken(parsing: "SharedAccessSignature sr=h&sig=\(Self.signature)&se=9223372036854775807")
        #expect(!token.isExpired(now: .max))
    }

    @Test func acceptsKeysOf16To64BytesOnly() throws {
        for (count, isKey) in [(0, false), (15, false), (16, true), (64, true), (65, false)] {
            #expect((SymmetricKey(base64: Base64.encode(Array(repeating: 7, count: count))) != nil) == isKey)
            #expect((SymmetricKey.random(count: count) != nil) == isKey)
        }
        #expect(SymmetricKey(base64: "not base64!") == nil)
        #expect(try #require(SymmetricKey.random()) != #require(SymmetricKey.random()))
        #expect(try Self.key(Self.digits).base64 == Self.digits)
        #expect(try Self.key(Self.digits) == Self.key(Self.digits))
    }

    @Test func printsNoSecret() throws {
        let key = try Self.key(Self.digits)
        let token = try SASToken(parsing: SASToken.make(resource: "h", key: key, expiry: 1))
        var printed = "\(key) \(String(reflecting: key)) \(token) \(String(reflecting: token))"
        dump(key, to: &printed)
        dump(token, to: &printed)
        #expect(!printed.contains("MDEy"))
        #expect(!printed.contains("signature:"))
    }
}
