/// What a device or module publishes to, mqtt-device 8 and device-streams 4.4.
package enum HubTopic: Equatable, Sendable {
    case telemetry(PropertyBag)
    /// `rid` as written, to be echoed unchanged; empty when the client gave none.
    case twinGet(rid: String)
    /// `version` locks: the patch applies only to that version of the reported section.
    case twinPatch(rid: String, version: Int64?)
    /// The application's status, and the `rid` of the call as the hub wrote it.
    case methodResponse(status: Int64, rid: String)
    /// Nil when it cannot be read: to be ignored, and no reason to close.
    case streamAnswer(StreamAnswer?)

    /// Classifies the topic of a PUBLISH. Ids are compared byte for byte, so `+` and `#` in them are no wildcards.
    package static func classify(_ topic: String, from client: ClientIdentity) throws(HubTopicError) -> HubTopic {
        let topic = Substring(topic)
        if let rest = topic.after(client.path + "/messages/events") {
            guard rest.isEmpty || rest.utf8.first == UInt8(ascii: "/") else { throw .unknown }
            guard let bag = PropertyBag(parsing: rest.dropFirst()) else { throw .malformedProperties }
            return .telemetry(bag)
        }
        guard let topic = topic.after("$iothub/") else { throw .unknown }
        if let rest = topic.after("twin/GET/") {
            return .twinGet(rid: TopicField.parse(rest, decodes: false)["$rid"] ?? "")
        }
        if let rest = topic.after("twin/PATCH/properties/reported/") {
            let fields = TopicField.parse(rest, decodes: false)
            let rid = fields["$rid"] ?? ""
            guard let written = fields["$version"] else { return .twinPatch(rid: rid, version: nil) }
            guard let version = PercentCoding.decode(written).flatMap({ Substring($0).plainInteger }) else {
                throw .malformedVersion(rid: rid)
            }
            return .twinPatch(rid: rid, version: version)
        }
        if let (status, rest) = topic.after("methods/res/")?.level() {
            guard let status = status.plainInteger else { throw .malformedStatus }
            return .methodResponse(status: status, rid: TopicField.parse(rest, decodes: false)["$rid"] ?? "")
        }
        if let rest = topic.after("streams/res/") { return .streamAnswer(StreamAnswer(rest)) }
        throw .unknown
    }
}

/// Why a PUBLISH's topic is none that a client may use; the hub closes the connection (mqtt-device 6).
package enum HubTopicError: Error, Equatable {
    /// Not in the map, or another identity's.
    case unknown
    case malformedProperties
    case malformedStatus
    /// A twin patch whose `$version` is no number: answered with 400 under this `rid`.
    case malformedVersion(rid: String)
}

extension Substring {
    /// The text before the first `/`, and what follows it; nothing follows where there is no slash.
    func level() -> (level: Substring, rest: Substring) {
        guard let slash = utf8.firstIndex(of: UInt8(ascii: "/")) else { return (self, "") }
        return (self[..<slash], self[utf8.index(after: slash)...])
    }
}
