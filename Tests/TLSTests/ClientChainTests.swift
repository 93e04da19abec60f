import COpenSSL
import Testing

@testable import TLS

private let now = Forge.now, day = Forge.day

/// The code of what stands against a list; nil when it is accepted.
private func code(_ presented: [Forge], _ authorities: [Forge], at time: Int64 = now) -> String? {
    do throws(ChainFault) {
        _ = try ClientChain.judge(presented: presented.map(\.certificate), authorities: authorities.map(\.certificate), at: time)
        return nil
    } catch {
        return error.code
    }
}

@Suite struct ClientChainTests {
    let root, middle, leaf: Forge

    init() throws {
        root = try .authority("Root")
        middle = try .authority("Middle", by: root, constraints: "critical,CA:TRUE,pathlen:0")
        leaf = try Forge("dev", by: middle)
    }

    @Test func theWayEndsAtWhateverIsRegistered() throws {
        #expect(code([leaf, middle], [root]) == nil)
        #expect(code([leaf], [middle]) == nil)
        #expect(code([leaf, middle, root], [root]) == nil)
        #expect(code([leaf, middle, root], [middle]) == nil)
        #expect(code([leaf], [middle, root]) == nil)
        #expect(code([leaf], [root]) == "no-issuer")
        #expect(code([leaf, middle], []) == "no-issuer")
        #expect(code([leaf, middle, root], []) == "untrusted-root")
        #expect(code([], [root]) == "no-certificate")
        let found = try ClientChain.judge(
            presented: [leaf, middle].map(\.certificate), authorities: [middle, root].map(\.certificate), at: now)
        #expect(found.isSame(as: middle.certificate))
    }

    @Test func theOrderOfTheOthersSaysNothing() throws {
        let free = try Forge.authority("Free", by: root)
        let low = try Forge.authority("Low", by: free)
        let end = try Forge("dev", by: low)
        #expect(code([end, low, free], [root]) == nil)
        #expect(code([end, free, low], [root]) == nil)
        #expect(code([end, root, leaf, free, middle, low, low], [root]) == nil)
    }

    @Test func datesCountForEveryOneOfTheWay() throws {
        let old = (from: now - 9 * day, until: now - day), young = (from: now + day, until: now + 9 * day)
        for (dates, verdict) in [(old, "expired"), (young, "not-yet-valid")] {
            #expect(code([try Forge("dev", by: middle, from: dates.from, until: dates.until), middle], [root]) == verdict)
            let between = try Forge.authority("Between", by: root, from: dates.from, until: dates.until)
            #expect(code([try Forge("dev", by: between), between], [root]) == verdict)
            let top = try Forge.authority("Top", from: dates.from, until: dates.until)
            #expect(code([try Forge("dev", by: top)], [top]) == verdict)
            #expect(code([try Forge("dev", by: top)], [top, root]) == verdict)
        }
        #expect(code([leaf, middle], [root], at: leaf.certificate.notBefore) == nil)
        #expect(code([leaf, middle], [root], at: leaf.certificate.notBefore - 1) == "not-yet-valid")
        #expect(code([leaf, middle], [root], at: leaf.certificate.notAfter + 1) == "expired")
    }

    @Test func anAuthorityMayBeRenewedBesideTheOldOne() throws {
        let key = try PrivateKey(generating: .p256)
        let old = try Forge.authority("Top", key: key, from: now - 9 * day, until: now - day), new = try Forge.authority("Top", key: key)
        let end = try Forge("dev", by: new)
        #expect(code([end], [old, new]) == nil)
        #expect(code([end], [new, old]) == nil)
        #expect(code([end, old], [new]) == nil)
        #expect(code([end], [old]) == "expired")
        let crossed = try Forge.authority("Top", by: root, key: key)
        #expect(code([end, crossed], [root, old]) == nil)
    }

    @Test func onlyCAsMaySign() throws {
        let plain = try Forge.authority("Plain", by: root, constraints: nil)
        #expect(code([try Forge("dev", by: plain), plain], [root]) == "not-a-ca")
        let denied = try Forge.authority("Denied", by: root, constraints: "CA:FALSE")
        #expect(code([try Forge("dev", by: denied), denied], [root]) == "not-a-ca")
        let silent = try Forge.authority("Silent", by: root, usage: "digitalSignature,cRLSign")
        #expect(code([try Forge("dev", by: silent), silent], [root]) == "key-usage")
        let free = try Forge.authority("Free", by: root, usage: nil)
        #expect(code([try Forge("dev", by: free), free], [root]) == nil)
        let bare = try Forge.authority("Bare", constraints: nil, usage: nil)
        #expect(code([try Forge("dev", by: bare)], [bare]) == "not-a-ca")
        #expect(code([try Forge("below", by: leaf), leaf, middle], [root]) == "not-a-ca")
    }

    @Test func pathLengthsAreRespected() throws {
        let below = try Forge.authority("Below", by: middle)
        #expect(code([try Forge("dev", by: below), below, middle], [root]) == "path-length")
        #expect(code([try Forge("dev", by: below), below], [middle]) == "path-length")
        #expect(code([try Forge("dev", by: below)], [below]) == nil)
    }

    @Test func aLeafIsALeafForTLSClients() throws {
        func leaf(_ extensions: (CInt, String)...) throws -> [Forge] {
            [try Forge("dev", by: middle, extensions: extensions), middle]
        }
        #expect(code(try leaf((NID_basic_constraints, "CA:TRUE")), [root]) == "is-a-ca")
        #expect(code(try leaf((NID_basic_constraints, "CA:TRUE"), (NID_key_usage, "digitalSignature")), [root]) == "is-a-ca")
        #expect(code(try leaf((NID_basic_constraints, "CA:FALSE")), [root]) == nil)
        #expect(code(try leaf((NID_ext_key_usage, "serverAuth")), [root]) == "key-usage")
        #expect(code(try leaf((NID_ext_key_usage, "serverAuth,clientAuth")), [root]) == nil)
        #expect(code(try leaf((NID_key_usage, "keyEncipherment")), [root]) == "key-usage")
        #expect(code(try leaf((NID_key_usage, "keyAgreement")), [root]) == "key-usage")
        #expect(code(try leaf((NID_key_usage, "critical,digitalSignature")), [root]) == nil)
        #expect(code([root], [root]) == "is-a-ca")
        #expect(code([middle], [root]) == "is-a-ca")
    }

    @Test func anExtensionThatNobodyKnowsAndIsCriticalIsRefused() throws {
        let odd = try Forge(
            "dev", by: middle, extensions: [(NID_netscape_comment, "critical,x"), (NID_info_access, "critical,OCSP;URI:http://x")])
        #expect(code([odd, middle], [root]) == "invalid")
    }

    @Test func anExtensionThatStandsThereTwiceIsRefused() throws {
        let usage = (NID_ext_key_usage, "serverAuth")
        #expect(code([try Forge("dev", by: middle, extensions: [usage, usage]), middle], [root]) == "invalid")
    }

    @Test func weakKeysAndDigestsAreRefusedAnywhere() throws {
        let weak = [try Forge.key(rsaBits: 1024), try Forge.key(curve: NID_secp224r1), try Forge.key(curve: NID_secp256k1)]
        for key in weak {
            #expect(code([try Forge("dev", by: middle, key: key), middle], [root]) == "weak-key")
            let between = try Forge.authority("Between", by: root, key: key)
            #expect(code([try Forge("dev", by: between), between], [root]) == "weak-key")
            let top = try Forge.authority("Top", key: key)
            #expect(code([try Forge("dev", by: top)], [top]) == "weak-key")
            #expect(throws: ChainFault.self) { try ClientChain.judgePinned(Forge("dev", key: key).certificate, at: now) }
        }
        #expect(code([try Forge("dev", by: middle, digest: EVP_sha1()), middle], [root]) == "weak-key")
        for algorithm in [KeyAlgorithm.p384, .rsa2048, .ed25519] {
            #expect(code([try Forge("dev", by: middle, key: PrivateKey(generating: algorithm)), middle], [root]) == nil)
        }
        #expect(code([try Forge("dev", by: middle, key: Forge.key(curve: NID_secp521r1)), middle], [root]) == nil)
    }

    @Test func aSignatureOfSomebodyElseIsNone() throws {
        let twin = try Forge.authority("Middle", by: root, constraints: "critical,CA:TRUE,pathlen:0")
        #expect(code([leaf, twin], [root]) == "bad-signature")
        #expect(code([leaf, twin, middle], [root]) == nil)
        #expect(code([leaf], [twin, middle]) == nil)
        #expect(code([leaf], [twin]) == "bad-signature")
        let other = try Forge.authority("Root")
        #expect(code([leaf, middle], [other]) == "bad-signature")
        #expect(code([leaf, middle], [other, root]) == nil)
    }

    @Test func authoritiesOfOneNameWithoutKeyIdentifiersAreToldApart() throws {
        let one = try Forge.authority("Same", identifiers: false), two = try Forge.authority("Same", identifiers: false)
        for issuer in [one, two] {
            #expect(code([try Forge("dev", by: issuer)], [one, two]) == nil)
            #expect(code([try Forge("dev", by: issuer)], [two, one]) == nil)
        }
    }

    @Test func aKeyIdentifierThatDiffersIsOnlyAHint() throws {
        let odd = try Forge.authority("Odd")
        let named = try Forge("dev", by: odd, extensions: [(NID_authority_key_identifier, "keyid")])
        let renamed = try Forge(
            "Odd", key: odd.key,
            extensions: [(NID_basic_constraints, "critical,CA:TRUE"), (NID_subject_key_identifier, "00:11:22:33")])
        #expect(code([named], [renamed]) == nil)
    }

    @Test func everyFlippedByteIsRefused() throws {
        let der = leaf.certificate.der
        for index in der.indices {
            var bytes = der
            bytes[index] ^= 0x01
            guard let changed = try? Certificate(der: bytes) else { continue }
            #expect(throws: ChainFault.self) {
                try ClientChain.judge(presented: [changed, middle.certificate], authorities: [root.certificate], at: now)
            }
        }
    }

    @Test func loopsAndLongListsEnd() throws {
        let key = try PrivateKey(generating: .p256), other = try PrivateKey(generating: .p256)
        let seed = try Forge.authority("A", key: key)
        let left = try Forge.authority("B", by: seed, key: other)
        let right = try Forge.authority("A", by: left, key: key)
        let end = try Forge("dev", by: left)
        #expect(code([end, left, right], [root]) == "no-issuer")
        #expect(code([end] + Array(repeating: left, count: 9), [root]) != nil)
        #expect(code([end] + Array(repeating: left, count: 10), [root]) == "too-long")
        var above = root, ladder: [Forge] = []
        for step in 0..<9 {
            above = try Forge.authority("Step \(step)", by: above)
            ladder.append(above)
        }
        #expect(code([try Forge("dev", by: above)] + ladder, [root]) == "too-long")
        #expect(code([try Forge("dev", by: above)] + ladder, [root] + ladder) == nil)
    }

    @Test func namesAreComparedWithCase() throws {
        func name(_ own: String, _ wanted: String) throws -> String? {
            let certificate = try Forge(own).certificate
            do throws(ChainFault) { try ClientChain.judgeName(certificate, is: wanted) } catch { return error.code }
            return nil
        }
        #expect(try name("Press-17", "Press-17") == nil)
        #expect(try name("press-17", "Press-17") == "wrong-name")
        #expect(try name("press/app", "press/app") == nil)
        #expect(try name("press ", "press") == "wrong-name")
        #expect(try name("\u{e9}", "e\u{301}") == "wrong-name")
    }

    @Test func aPinnedLeafMayBeACAAndMustBeWithinItsDates() throws {
        try ClientChain.judgePinned(root.certificate, at: now)
        #expect(throws: ChainFault.self) { try ClientChain.judgePinned(root.certificate, at: root.certificate.notAfter + 1) }
        #expect(throws: ChainFault.self) { try ClientChain.judgePinned(root.certificate, at: root.certificate.notBefore - 1) }
    }
}
