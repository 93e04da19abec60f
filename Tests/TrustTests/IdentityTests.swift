import Glibc
import LinuxIO
import TLS
import Testing

@testable import Trust

@Suite struct FingerprintTests {
    /// `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64` of this certificate.
    private static let pem = """
        -----BEGIN CERTIFICATE-----
        MIIBezCCASGgAwIBAgIUZhF6Bs+xRPJYDH4jHjrKH3+qgSEwCgYIKoZIzj0EAwIw
        EzERMA8GA1UEAwwIcHJlc3MtMTcwHhcNMjYxMTIxMDQyMzA1WhcNMzYxMTE4MDQy
        MzA1WjATMREwDwYDVQQDDAhwcmVzcy0xNzBZMBMGByqGSM49AgEGCCqGSM49AwEH
        A0IABGOhm0xmdJmobNWwurrnkmuh5AgqfQt/bTYi9xJmGxoUEZZ/Tz+I/9mglrsk
        XBI2wdYojDsd7qymaSCllJKmjLujUzBRMB0GA1UdDgQWBBSZASSmDr9kc//H/Dw2
        /oqwoULgtjAfBgNVHSMEGDAWgBSZASSmDr9kc//H/Dw2/oqwoULgtjAPBgNVHRMB
        Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQD55AMSNIj5BTDQt3bNebiEEaxK
        uf67VNKsMVbwG70c3AIgHMq6xZAF3twF83E9/lc5IeeZetrODz/fRLzO36rD8xE=
        -----END CERTIFICATE-----
        """
    private static let fingerprint = "SHA256:GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSFc"

    @Test func itIsTheOneThatOpenSSLComputes() throws {
        let certificate = try Certificate(pem: Array(Self.pem.utf8))
        #expect(try Fingerprint(of: certificate).description == Self.fingerprint)
        #expect(try Fingerprint(certificateDER: certificate.der) == Fingerprint(Self.fingerprint))
    }

    @Test func everyCertificateOfAKeyHasTheSameOne() throws {
        for algorithm in [KeyAlgorithm.p256, .p384, .ed25519, .rsa2048] {
            let key = try PrivateKey(generating: algorithm)
            let expected = try Fingerprint(of: key)
            let root = try Certificate.root(commonName: "a", key: key, seconds: 60, now: 1_800_000_000)
            #expect(try Fingerprint(of: root) == expected)
            #expect(try Fingerprint(of: Certificate.bearer(of: key, commonName: "b")) == expected)
            #expect(try Fingerprint(of: PrivateKey(generating: algorithm)) != expected)
        }
    }

    @Test func itIsReadAsItIsWritten() throws {
        let shown = try Fingerprint(of: PrivateKey(generating: .p256))
        #expect(Fingerprint(shown.description) == shown)
        #expect(shown.description.utf8.count == 50)
    }

    @Test(arguments: [
        "", "SHA256:", "sha256:GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSFc", "GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSFc",
        "SHA256:GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSFc=", "SHA256:GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSF",
        "SHA256:GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSFc A", " SHA256:GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSFc",
        "MD5:GLMu9mJH2Cna3rTbKzD1NhSwKEaZaxhohaEn3oUhSFc",
        // The last character's low bits have to be zero: 43 characters hold 258 bits.
        "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-A",
    ]) func nothingElseIsOne(_ text: String) {
        #expect(Fingerprint(text) == nil)
    }
}

@Suite struct OwnIdentityTests {
    @Test func aKeyIsMadeAtFirstUseAndKept() throws {
        let scratch = try Scratch()
        let path = scratch.file("deep/er/agent.key")
        let first = try OwnIdentity(keyFile: path, commonName: "press-17")
        #expect(mode(path) == 0o600)
        #expect(mode(scratch.file("deep/er")) == 0o700)
        #expect(first.chain.leaf.commonName == "press-17")
        #expect(first.chain.leaf.isSelfSigned)
        #expect(first.chain.leaf.notAfter == 253_402_300_799)
        #expect(first.key.matches(first.chain.leaf))
        #expect(first.key.algorithm == "EC P-256")
        #expect(try Files.names(in: scratch.file("deep/er")) == ["agent.key"])
        let second = try OwnIdentity(keyFile: path, commonName: "press-17")
        #expect(second.fingerprint == first.fingerprint)
    }

    @Test func aLongNameIsCut() throws {
        let scratch = try Scratch()
        let made = try OwnIdentity(keyFile: scratch.file("k"), commonName: String(repeating: "ä", count: 128))
        #expect(made.chain.leaf.commonName == String(repeating: "ä", count: 64))
    }

    @Test func thoseWhoStartAtOnceAgreeOnOneKey() async throws {
        let scratch = try Scratch()
        let path = scratch.file("agent.key")
        let shown = try await withThrowingTaskGroup(of: Fingerprint.self) { group in
            for _ in 0..<16 { group.addTask { try OwnIdentity(keyFile: path, commonName: "d").fingerprint } }
            return try await group.reduce(into: Set<Fingerprint>()) { $0.insert($1) }
        }
        #expect(shown.count == 1)
        #expect(try Files.names(in: scratch.path) == ["agent.key"])
    }

    @Test(arguments: [0o640, 0o604, 0o644, 0o620, 0o660, 0o610] as [mode_t])
    func aKeyThatOthersMayReadIsRefused(_ open: mode_t) throws {
        let scratch = try Scratch()
        let path = scratch.file("agent.key")
        _ = try OwnIdentity(keyFile: path, commonName: "d")
        chmod(path, open)
        let error = #expect(throws: TrustError.self) { try OwnIdentity(keyFile: path, commonName: "d") }
        #expect(error?.kind == .openToOthers)
        #expect(error?.exitStatus == 77)
        #expect(error?.description == "\(path): others may read this key: run chmod 600 \(path)")
        #expect(mode(path) == UInt32(open))
    }

    @Test(arguments: ["", "rubbish\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
    func whatIsNoKeyIsAnErrorAndStaysAsItIs(_ text: String) throws {
        let scratch = try Scratch()
        let path = try scratch.write("agent.key", text)
        let error = #expect(throws: TrustError.self) { try OwnIdentity(keyFile: path, commonName: "d") }
        #expect(error?.kind == .malformed)
        #expect(error?.description.contains(text: "AAAA") == false)
        #expect(try scratch.text("agent.key") == text)
    }

    @Test func aPlaceWhereNothingCanBeMadeIsAnError() throws {
        let scratch = try Scratch()
        try scratch.write("file", "")
        let error = #expect(throws: TrustError.self) { try OwnIdentity(keyFile: scratch.file("file/agent.key"), commonName: "d") }
        #expect(error?.kind == .system(ENOTDIR))
        mkdir(scratch.file("folder"), 0o700)
        let other = #expect(throws: TrustError.self) { try OwnIdentity(keyFile: scratch.file("folder"), commonName: "d") }
        #expect(other?.kind == .system(EISDIR))
    }

    @Test func certificateAndKeyHaveToBelongTogether() throws {
        let scratch = try Scratch()
        let key = try PrivateKey(generating: .p256), other = try PrivateKey(generating: .p256)
        let certificate = try Certificate.root(commonName: "d", key: key, seconds: 60, now: 1_800_000_000)
        let path = try scratch.write("d.cert.pem", certificate.pem)
        try Files.replace(scratch.file("d.key.pem"), with: key.pem(), mode: 0o600)
        try Files.replace(scratch.file("other.key.pem"), with: other.pem(), mode: 0o600)
        let own = try OwnIdentity(certificatePath: path, keyPath: scratch.file("d.key.pem"))
        #expect(own.fingerprint == (try Fingerprint(of: key)))
        let error = #expect(throws: TrustError.self) {
            try OwnIdentity(certificatePath: path, keyPath: scratch.file("other.key.pem"))
        }
        #expect(error?.kind == .malformed)
        let missing = #expect(throws: TrustError.self) { try OwnIdentity(certificatePath: path, keyPath: scratch.file("none")) }
        #expect(missing?.exitStatus == 66)
    }
}

@Suite struct RenewedIdentityTests {
    private let scratch: Scratch
    private let complaints = Complaints()

    init() throws { scratch = try Scratch() }

    private func pair(_ days: Int64 = 10) throws -> (certificate: String, key: [UInt8], fingerprint: Fingerprint) {
        let key = try PrivateKey(generating: .p256)
        let certificate = try Certificate.root(commonName: "d", key: key, seconds: days * 86400, now: Clock.unixSeconds)
        return (certificate.pem, try key.pem(), try Fingerprint(of: key))
    }

    private func write(certificate: String) throws { try scratch.write("d.cert.pem", certificate, mode: 0o644) }
    private func write(key: [UInt8], mode: mode_t = 0o600) throws { try Files.replace(scratch.file("d.key.pem"), with: key, mode: mode) }

    private func identity() throws -> RenewedIdentity {
        let complaints = complaints
        return try RenewedIdentity(certificatePath: scratch.file("d.cert.pem"), keyPath: scratch.file("d.key.pem")) { complaints.add($0) }
    }

    @Test func aRenewedPairCountsAsSoonAsItIsWhole() throws {
        let old = try pair(), new = try pair()
        try write(certificate: old.certificate)
        try write(key: old.key)
        let identity = try identity()
        #expect(identity.current.identity.fingerprint == old.fingerprint)

        try write(certificate: new.certificate)
        #expect(identity.current.identity.fingerprint == old.fingerprint)
        #expect(identity.current.generation == 0)
        #expect(complaints.all.count == 1 && complaints.all[0].contains("does not belong to the certificate"))

        try write(key: new.key)
        #expect(identity.current.identity.fingerprint == new.fingerprint)
        #expect(identity.current.generation == 1)
        #expect(complaints.all.count == 1)
    }

    @Test(arguments: ["", "-----BEGIN CERTIFICATE-----\nMIIB", "nonsense"])
    func whatIsHalfWrittenChangesNothing(_ text: String) throws {
        let old = try pair()
        try write(certificate: old.certificate)
        try write(key: old.key)
        let identity = try identity()
        try write(certificate: text)
        #expect(identity.current.identity.fingerprint == old.fingerprint)
        Files.remove(scratch.file("d.cert.pem"))
        #expect(identity.current.identity.fingerprint == old.fingerprint)
        try write(certificate: old.certificate)
        #expect(identity.current.identity.fingerprint == old.fingerprint)
    }

    @Test func aNewKeyThatOthersMayReadIsNotTaken() throws {
        let old = try pair(), new = try pair()
        try write(certificate: old.certificate)
        try write(key: old.key)
        let identity = try identity()
        try write(certificate: new.certificate)
        try write(key: new.key, mode: 0o644)
        #expect(identity.current.identity.fingerprint == old.fingerprint)
        #expect(complaints.all.last?.contains("others may read this key") == true)
        chmod(scratch.file("d.key.pem"), 0o600)
        #expect(identity.current.identity.fingerprint == new.fingerprint)
    }

    @Test func anExpiredCertificateIsTakenAndComplainedAbout() throws {
        let old = try pair(-1)
        try write(certificate: old.certificate)
        try write(key: old.key)
        let identity = try identity()
        #expect(identity.current.identity.fingerprint == old.fingerprint)
        #expect(complaints.all.count == 1 && complaints.all[0].contains("the certificate expired on "))
    }
}
