/// Which names may name what: ids of devices and modules (mqtt-device 1), names of streams and of policies.
package enum Identifier {
    /// Bytes of the longest id or name.
    package static let longest = 128

    /// A deviceId or moduleId: 1 to 128 of ASCII letters, digits and `- . % _ * ? ! ( ) , : = @ $ ' + # ;`.
    package static func isValidID(_ text: some StringProtocol) -> Bool {
        isWhole(text) { isAlphanumeric($0) || idPunctuation.contains($0) }
    }

    /// A stream's name: 1 to 128 characters, none of them a control character or a slash (device-streams 14).
    package static func isValidStreamName(_ text: some StringProtocol) -> Bool {
        (1...longest).contains(text.unicodeScalars.count)
            && text.unicodeScalars.allSatisfy { $0 != "/" && $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }
    }

    /// A stream's name that no client needs encoded: 1 to 128 of `A-Z a-z 0-9 - . _ ~` (device-streams 4.3). Ours are such.
    package static func isPlainStreamName(_ text: some StringProtocol) -> Bool {
        isWhole(text) { isAlphanumeric($0) || streamPunctuation.contains($0) }
    }

    /// A shared access policy's name: 1 to 64 of ASCII letters, digits and `- . _`.
    package static func isValidPolicyName(_ text: some StringProtocol) -> Bool {
        text.utf8.count <= 64 && isWhole(text) { isAlphanumeric($0) || policyPunctuation.contains($0) }
    }

    /// A provisioning service's registrationId, or the id of an enrollment group: 1 to 128 of ASCII letters, digits and `- . _ :`, a
    /// letter, digit or hyphen at its end (dps 1).
    package static func isValidRegistrationID(_ text: some StringProtocol) -> Bool {
        isWhole(text) { isAlphanumeric($0) || registrationPunctuation.contains($0) }
            && text.utf8.reversed().first.map { isAlphanumeric($0) || $0 == UInt8(ascii: "-") } == true
    }

    /// A provisioning service's idScope: 1 to 128 ASCII letters and digits (dps 1).
    package static func isValidScope(_ text: some StringProtocol) -> Bool { isWhole(text) { isAlphanumeric($0) } }

    private static let registrationPunctuation = Set("-._:".utf8)
    private static let idPunctuation = Set("-.%_*?!(),:=@$'+#;".utf8)
    private static let streamPunctuation = Set("-._~".utf8)
    private static let policyPunctuation = Set("-._".utf8)

    private static func isWhole(_ text: some StringProtocol, _ isAllowed: (UInt8) -> Bool) -> Bool {
        (1...longest).contains(text.utf8.count) && text.utf8.allSatisfy(isAllowed)
    }

    private static func isAlphanumeric(_ code: UInt8) -> Bool {
        switch code {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"): true
        default: false
        }
    }
}
