/// Why a stream's topic cannot be read or written.
package enum StreamTopicError: Error, Equatable {
    case notAStreamTopic
    case malformedName
    case malformedStatus
    /// The field `$rid`, `$url` or `$auth` is absent, empty, or not made of the characters that every client takes.
    case malformedField(String)
}

/// The hub asks a device to take its leg of a stream (device-streams 4.3). Prints without its token.
package struct StreamRequest: Equatable, Sendable, CustomStringConvertible, CustomReflectable {
    /// As people write it: percent-decoded.
    package var streamName: String
    /// Letters, digits, hyphens.
    package var rid: String
    /// Absolute URL of the device's leg, with an explicit port; ASCII.
    package var url: String
    /// Bearer token; letters, digits, `._-`.
    package var auth: String
    /// Further fields behind the three; `$offer` for one. Clients that do not know them ignore them.
    package var fields: [TopicField]

    package init(streamName: String, rid: String, url: String, auth: String, fields: [TopicField] = []) {
        self.streamName = streamName
        self.rid = rid
        self.url = url
        self.auth = auth
        self.fields = fields
    }

    package static let topicPrefix = "$iothub/streams/POST/"

    /// The topic, in the one form that all clients read.
    package func topic() throws(StreamTopicError) -> String {
        guard !streamName.isEmpty, !streamName.utf8.contains(0) else { throw .malformedName }
        guard StreamAnswer.isPlain(rid, punctuation: "-") else { throw .malformedField("$rid") }
        guard !url.isEmpty, url.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { throw .malformedField("$url") }
        guard StreamAnswer.isPlain(auth, punctuation: "-._") else { throw .malformedField("$auth") }
        let name = PercentCoding.encode(streamName, leaving: .unreserved)
        let extras = try StreamAnswer.encode(fields, apartFrom: ["$rid", "$url", "$auth"])
        return "\(Self.topicPrefix)\(name)/?$rid=\(rid)&$url=\(PercentCoding.encode(url, leaving: .streamURL))&$auth=\(auth)\(extras)"
    }

    /// Reads a request's topic as a device does: fields in any order, `?` or not, further fields kept.
    package init(topic: String) throws(StreamTopicError) {
        guard let (name, rest) = Substring(topic).after(Self.topicPrefix)?.level() else { throw .notAStreamTopic }
        guard let decoded = PercentCoding.decode(String(name)), !decoded.isEmpty else { throw .malformedName }
        streamName = decoded
        var all = TopicField.parse(rest)
        func take(_ key: String) throws(StreamTopicError) -> String {
            let values = all.filter { $0.key == key }
            guard values.count == 1, !values[0].value.isEmpty else { throw .malformedField(key) }
            all.removeAll { $0.key == key }
            return values[0].value
        }
        rid = try take("$rid")
        url = try take("$url")
        auth = try take("$auth")
        fields = all
    }

    package var description: String { "StreamRequest(\(streamName), rid: \(rid))" }
    package var customMirror: Mirror { Mirror(self, children: ["streamName": streamName, "rid": rid]) }
}

/// The device's answer to a request (device-streams 4.4).
package struct StreamAnswer: Equatable, Sendable {
    /// 200 accepts; 400, and anything else, rejects.
    package var status: Int
    /// Percent-decoded.
    package var rid: String
    /// Further fields; `$chosen` and `$reason` for two.
    package var fields: [TopicField]

    package init(status: Int, rid: String, fields: [TopicField] = []) {
        self.status = status
        self.rid = rid
        self.fields = fields
    }

    package static let accepted = 200, rejected = 400

    package var isAccepted: Bool { status == Self.accepted }

    /// The topic to which the device publishes.
    package func topic() throws(StreamTopicError) -> String {
        guard !rid.isEmpty else { throw .malformedField("$rid") }
        let extras = try Self.encode(fields, apartFrom: ["$rid"])
        return "$iothub/streams/res/\(status)/?$rid=\(PercentCoding.encode(rid, leaving: .unreserved))\(extras)"
    }

    /// Reads what follows `$iothub/streams/res/`; nil when it has no status or no rid.
    init?(_ rest: Substring) {
        let (written, tail) = rest.level()
        guard let status = written.plainInteger.flatMap({ Int(exactly: $0) }) else { return nil }
        var all = TopicField.parse(tail)
        guard let rid = all["$rid"], !rid.isEmpty else { return nil }
        all.removeAll { $0.key == "$rid" }
        self.init(status: status, rid: rid, fields: all)
    }

    fileprivate static func encode(_ fields: [TopicField], apartFrom reserved: Set<String>) throws(StreamTopicError) -> String {
        var text = "", seen = reserved
        for field in fields {
            // .NET throws on a key that comes twice
            guard field.hasPlainKey, seen.insert(field.key).inserted else { throw .malformedField(field.key) }
            text += "&\(field.encoded)"
        }
        return text
    }

    fileprivate static func isPlain(_ text: String, punctuation: String) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy { ASCII.isDigit($0) || ASCII.lowercased($0) &- 0x61 < 26 || punctuation.utf8.contains($0) }
    }
}
