/// The user name by which a device connects to the provisioning service (dps 2.2):
/// `{idScope}/registrations/{registrationId}/api-version={v}[&ClientVersion={…}]`.
package struct ProvisioningUserName: Equatable, Sendable {
    /// Letters and digits.
    package let scope: String
    /// As written; compare without case.
    package let registrationID: String
    package let apiVersion: String

    /// Nil for a name of another form, and where the client id names another registration.
    package init?(_ text: String, clientID: String) {
        let (scope, rest) = Substring(text).level()
        let (word, tail) = rest.level()
        let (id, fields) = tail.level()
        guard word == "registrations", !scope.isEmpty, scope.utf8.allSatisfy({ ASCII.lowercased($0) &- 0x61 < 26 || ASCII.isDigit($0) }),
            ASCII.equalIgnoringCase(String(id), clientID),
            let version = TopicField.parse(fields, decodes: false)["api-version"], Self.isVersion(version)
        else { return nil }
        (self.scope, registrationID, apiVersion) = (String(scope), String(id), version)
    }

    /// Whether this is a date, as all versions of the protocol are: `2019-03-31`, with something behind it or not.
    package static func isVersion(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard (10...40).contains(bytes.count) else { return false }
        return bytes[..<10].enumerated().allSatisfy { $0 == 4 || $0 == 7 ? $1 == UInt8(ascii: "-") : ASCII.isDigit($1) }
    }
}

/// What a device publishes to the provisioning service (dps 2.4).
package struct ProvisioningRequest: Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        case register
        /// Asks for the state of this operation.
        case poll(operation: String)
    }

    package let kind: Kind
    /// As transmitted: it goes back byte for byte. Nil where there is none, or none that an answer's topic can hold.
    package let rid: String?

    private static let register = "$dps/registrations/PUT/iotdps-register/?"
    private static let poll = "$dps/registrations/GET/iotdps-get-operationstatus/?"
    /// Bytes of the longest `$rid` that is answered.
    private static let longestRid = 512

    /// Where answers come: the one filter that a device may subscribe to.
    package static let answers = "$dps/registrations/res/#"

    /// Nil for a topic that is none of the two.
    package init?(topic: String) {
        let text = Substring(topic)
        let (isRegister, fields) = (text.after(Self.register), text.after(Self.poll))
        guard let rest = isRegister ?? fields else { return nil }
        let known = TopicField.parse(rest, decodes: false)
        rid = known["$rid"].flatMap { rid in
            (1...Self.longestRid).contains(rid.utf8.count) && !rid.utf8.contains(where: { "$+#".utf8.contains($0) || $0 < 0x20 })
                ? rid : nil
        }
        kind = isRegister != nil ? .register : .poll(operation: known["operationId"] ?? "")
    }

    /// The topic of an answer.
    ///
    /// - Parameters:
    ///   - status: as HTTP has it.
    ///   - retryAfterSeconds: when to ask again.
    package static func answer(status: Int, rid: String, retryAfterSeconds: Int? = nil) -> String {
        "$dps/registrations/res/\(status)/?$rid=\(rid)\(retryAfterSeconds.map { "&retry-after=\($0)" } ?? "")"
    }
}
