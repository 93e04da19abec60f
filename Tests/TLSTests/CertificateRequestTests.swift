import Testing

@testable import TLS

@Suite struct CertificateRequestTests {
    @Test(arguments: KeyAlgorithm.allCases) func whatIsAskedForIsRead(_ algorithm: KeyAlgorithm) throws {
        let key = try PrivateKey(generating: algorithm), names = try ["hub.example", "10.0.0.1", "::1"].map { try AlternativeName($0) }
        let made = try CertificateRequest(commonName: "Ünicode, x=1", names: names, key: key)
        let read = try CertificateRequest(bytes: Array(made.pem.utf8))
        #expect(read.commonName == "Ünicode, x=1" && read.alternativeNames == names)
        #expect(read.matches(key) && read.keyAlgorithm == key.algorithm && read.keyBits == key.bits)
        #expect(try !read.matches(PrivateKey(generating: algorithm)))
    }

    @Test func aNamelessRequestHasNoName() throws {
        let request = try CertificateRequest(commonName: nil, names: [.dns("a.example")], key: PrivateKey(generating: .p256))
        #expect(request.commonName == nil && request.alternativeNames == [.dns("a.example")])
        #expect(try CertificateRequest(commonName: "a", names: [], key: PrivateKey(generating: .p256)).alternativeNames.isEmpty)
    }

    @Test func namesThatNoCertificateHoldsAreRefused() throws {
        let key = try PrivateKey(generating: .p256)
        for name in ["", String(repeating: "x", count: 65), "a\nb"] {
            #expect(throws: CertificateError.self) { try CertificateRequest(commonName: name, names: [], key: key) }
        }
    }

    @Test func noDamageIsTaken() throws {
        let pem = Array(try CertificateRequest(commonName: "d", names: [], key: PrivateKey(generating: .p256)).pem.utf8)
        for end in stride(from: 0, to: pem.count - 2, by: 7) {
            #expect(throws: CertificateError.self) { try CertificateRequest(bytes: Array(pem[..<end])) }
        }
        #expect(throws: CertificateError.noRequest) { try CertificateRequest(bytes: []) }
        #expect(throws: CertificateError.noRequest) { try CertificateRequest(bytes: Array("text".utf8)) }
        #expect(throws: CertificateError.self) { try CertificateRequest(bytes: [0x30] + [UInt8](repeating: 0x80, count: 500)) }
    }

    @Test func theIssuerTakesTheKeyAndNothingElse() throws {
        let root = try PrivateKey(generating: .p256), now: Int64 = 1_767_225_600
        let authority = try CertificateAuthority(
            certificate: .root(commonName: "r", key: root, seconds: 86_400, now: now), key: root)
        let key = try PrivateKey(generating: .rsa2048)
        let request = try CertificateRequest(commonName: "asked", names: [.dns("asked.example")], key: key)
        let made = try authority.issue(.client, commonName: "given", for: request, seconds: 3600, now: now)
        #expect(made.commonName == "given" && made.alternativeNames.isEmpty && key.matches(made) && !made.isCA)
    }
}
