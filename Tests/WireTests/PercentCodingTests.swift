import Testing
import Wire

@Suite struct PercentCodingTests {
    @Test(arguments: [
        ("", ""), ("plain", "plain"), ("a%2Fb", "a/b"), ("a%2fb", "a/b"), ("a+b", "a+b"), ("%252B", "%2B"), ("%C3%A4", "ä"), ("%00", "\0"),
    ])
    func decodesOnce(_ text: String, _ expected: String) {
        #expect(PercentCoding.decode(text) == expected)
    }

    @Test(arguments: ["%", "%2", "a%", "%zz", "%2g", "%%20", "%-1", "%+1", "%FF", "%C3", "%C3a"])
    func refusesBrokenEscapesAndWhatIsNotUTF8(_ text: String) {
        #expect(PercentCoding.decode(text) == nil)
    }

    @Test(arguments: [
        ("dev 1~x", "dev%201~x", "dev%201%7Ex"), ("a!b(c)*", "a%21b%28c%29%2A", "a!b(c)*"), ("ä/+%", "%C3%A4%2F%2B%25", "%C3%A4%2F%2B%25"),
    ])
    func leavesOnlyTheSafeSet(_ text: String, _ unreserved: String, _ streamURL: String) {
        #expect(PercentCoding.encode(text, leaving: .unreserved) == unreserved)
        #expect(PercentCoding.encode(text, leaving: .streamURL) == streamURL)
    }

    @Test func everyByteComesBack() {
        let all = (0...255).map { UInt8($0) }
        for safe in [PercentCoding.SafeSet.unreserved, .streamURL] {
            let encoded = PercentCoding.encode(all.span.bytes, leaving: safe)
            #expect(PercentCoding.decodeBytes(encoded.utf8Span.span.bytes) == all)
        }
    }

    @Test func aStreamURLStandsInATopicAsTheClientsExpectIt() {
        let url = "wss://hub.example.net:443/bridges/ih/hub/d/dev1/sid/37114208d0e448989afe1ea20300cd0e/r/device"
        let expected =
            "wss%3A%2F%2Fhub.example.net%3A443%2Fbridges%2Fih%2Fhub%2Fd%2Fdev1%2Fsid%2F37114208d0e448989afe1ea20300cd0e%2Fr%2Fdevice"
        #expect(PercentCoding.encode(url, leaving: .streamURL) == expected)
        #expect(PercentCoding.encode("dev%2B1", leaving: .streamURL) == "dev%252B1")
    }
}
