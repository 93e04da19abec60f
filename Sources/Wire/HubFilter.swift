/// What a client may subscribe to (mqtt-device 8, device-streams 4.2); any other filter is answered with 0x80.
package enum HubFilter: String, Hashable, Sendable, CaseIterable {
    /// Cloud-to-device messages; devices only.
    case devicebound
    /// Messages routed to a module's inputs; modules only.
    case moduleInputs
    case twinResults
    case desiredProperties
    case methods
    case streamRequests
    /// Subscribed by every client of streams, and never published to by the hub.
    case streamAnswers

    /// The filter behind its text, for this client; nil when it is not in the map. Ids are compared byte for byte.
    package init?(_ text: String, from client: ClientIdentity) {
        switch text {
        case "$iothub/twin/res/#": self = .twinResults
        case "$iothub/twin/PATCH/properties/desired/#": self = .desiredProperties
        case "$iothub/methods/POST/#": self = .methods
        case "$iothub/streams/POST/#": self = .streamRequests
        case "$iothub/streams/res/#": self = .streamAnswers
        default:
            guard let rest = Substring(text).after(client.path) else { return nil }
            if client.moduleID == nil {
                guard rest == "/messages/devicebound/#" else { return nil }
                self = .devicebound
            } else {
                guard rest == "/inputs/#" || rest == "/#" else { return nil }
                self = .moduleInputs
            }
        }
    }

    /// The filter as a client subscribes to it.
    package func text(for client: ClientIdentity) -> String {
        switch self {
        case .devicebound: "\(client.path)/messages/devicebound/#"
        case .moduleInputs: "\(client.path)/inputs/#"
        case .twinResults: "$iothub/twin/res/#"
        case .desiredProperties: "$iothub/twin/PATCH/properties/desired/#"
        case .methods: "$iothub/methods/POST/#"
        case .streamRequests: "$iothub/streams/POST/#"
        case .streamAnswers: "$iothub/streams/res/#"
        }
    }
}

/// What a hub publishes to a client (mqtt-device 8).
package enum HubPublication: Equatable, Sendable {
    case devicebound(PropertyBag)
    case moduleInput(name: String, PropertyBag)
    /// `rid` as the client wrote it; `version` after a patch that succeeded.
    case twinResult(status: Int, rid: String, version: Int64?)
    case desiredProperties(version: Int64)
    /// `rid` of letters, digits and hyphens.
    case method(name: String, rid: String)

    /// The filter by which the client must have asked for it.
    package var filter: HubFilter {
        switch self {
        case .devicebound: .devicebound
        case .moduleInput: .moduleInputs
        case .twinResult: .twinResults
        case .desiredProperties: .desiredProperties
        case .method: .methods
        }
    }

    package func topic(for client: ClientIdentity) -> String {
        switch self {
        case .devicebound(let bag): "\(client.path)/messages/devicebound/\(bag.text)"
        case .moduleInput(let name, let bag): "\(client.path)/inputs/\(PercentCoding.encode(name, leaving: .unreserved))/\(bag.text)"
        case .twinResult(let status, let rid, let version):
            "$iothub/twin/res/\(status)/?$rid=\(rid)" + (version.map { "&$version=\($0)" } ?? "")
        case .desiredProperties(let version): "$iothub/twin/PATCH/properties/desired/?$version=\(version)"
        case .method(let name, let rid): "$iothub/methods/POST/\(PercentCoding.encode(name, leaving: .unreserved))/?$rid=\(rid)"
        }
    }
}
