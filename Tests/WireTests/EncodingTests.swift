import Testing

@testable import Wire

@Suite struct EncodingTests {
    /// RFC 4648 section 10.
    static let vectors = [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
    ]

    @Test(arguments: vectors) func codesTheVectorsOfTheStandard(plain: String, coded: String) {
        #expect(Base64.encode(plain.utf8) == coded)
        #expect(Base64.decode(coded) == Array(plain.utf8))
        let bare = String(coded.filter { $0 != "=" })
        #expect(Base64.encodeURL(plain.utf8) == bare)
        #expect(Base64.decodeURL(bare) == Array(plain.utf8))
    }

    @Test func codesEveryByteAtEveryPlace() {
        for count in 0...70 {
            for seed in 0..<8 {
                let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ seed &* 31) }
                #expect(Base64.decode(Base64.encode(bytes)) == bytes)
                #expect(Base64.decodeURL(Base64.encodeURL(bytes)) == bytes)
                #expect(Hex.decode(Hex.encode(bytes)) == bytes)
                #expect(Hex.decode(Hex.encode(bytes, uppercase: true)) == bytes)
            }
        }
    }

    @Test(arguments: ["A", "AA", "AAA", "AA=", "A===", "====", "AA==A", "AA==AAAA", "Zh==", "Zm9=", "Zm9v\n", "Zm 9", "Zm-_", "Zé=="])
    func refusesEveryOtherSpellingOfBase64(text: String) {
        #expect(Base64.decode(text) == nil)
    }

    @Test(arguments: ["A", "AA==", "Zh", "Zm9", "a+b/", "AAAAA"]) func refusesEveryOtherSpellingOfBase64url(text: String) {
        #expect(Base64.decodeURL(text) == nil)
    }

    @Test(arguments: ["a", "0g", "0x", " 0", "é"]) func refusesWhatIsNoHex(text: String) {
        #expect(Hex.decode(text) == nil)
    }

    @Test func limitsIdentifiers() {
        let longest = String(repeating: "a", count: 128)
        for good in ["a", "A-.%_*?!(),:=@$'+#;9", "$edgeAgent", longest] { #expect(Identifier.isValidID(good)) }
        for bad in ["", "a/b", "a b", "a\"", "ä", "a\0", "a\n", "a<", longest + "a"] { #expect(!Identifier.isValidID(bad)) }
        for good in ["22", "web-1_x.y~z"] { #expect(Identifier.isPlainStreamName(good)) }
        for bad in ["", "a b", "a/b", "a+", "é", "%41"] { #expect(!Identifier.isPlainStreamName(bad)) }
        for good in ["22", "a b", "a+", "é", "%41", "127.0.0.1:22", String(repeating: "é", count: 128)] {
            #expect(Identifier.isValidStreamName(good))
        }
        for bad in ["", "a/b", "a\n", "\u{7F}", "\u{85}", "a\0", String(repeating: "a", count: 129)] {
            #expect(!Identifier.isValidStreamName(bad))
        }
        #expect(Identifier.isValidPolicyName("iothubowner"))
        #expect(!Identifier.isValidPolicyName(String(repeating: "a", count: 65)))
        #expect(ClientIdentity(clientID: "d/m/n") == nil)
        #expect(ClientIdentity(clientID: "d/") == nil)
        #expect(ClientIdentity(clientID: "") == nil)
        #expect(ClientIdentity(clientID: "d/m")?.path == "devices/d/modules/m")
    }
}
