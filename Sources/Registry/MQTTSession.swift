import Store
import Wire

/// What lasts of an MQTT session with clean session 0: devices subscribe one time and never again (mqtt-device 7).
package struct MQTTSession: Equatable, Sendable {
    package struct Subscription: Equatable, Sendable {
        package var filter: String
        /// Granted: 0 or 1.
        package var qos: UInt8

        package init(filter: String, qos: UInt8) {
            self.filter = filter
            self.qos = qos
        }
    }

    package var subscriptions: [Subscription]

    package init(subscriptions: [Subscription] = []) { self.subscriptions = subscriptions }

    /// `{"subscriptions":[{"filter":…,"qos":1}]}`
    var json: JSONValue {
        ["subscriptions": .array(subscriptions.map { ["filter": .string($0.filter), "qos": .integer(Int64($0.qos))] })]
    }

    init(json: JSONValue) {
        subscriptions = (json["subscriptions"]?.array ?? []).compactMap { entry in
            guard let filter = entry["filter"]?.string, let qos = entry["qos"]?.integer else { return nil }
            return Subscription(filter: filter, qos: UInt8(min(max(qos, 0), 1)))
        }
    }
}

extension Registry {
    /// The session that the identity left behind; nil when there is none.
    package func session(_ name: ClientIdentity) throws(RegistryError) -> MQTTSession? {
        try read { transaction throws(RegistryError) in
            let bytes = try Self.stored { () throws(StoreError) in try transaction.get(.sessions, name.key) }
            return bytes.flatMap { try? JSONValue.parse($0) }.map { MQTTSession(json: $0) }
        }
    }

    /// Only an identity that exists keeps a session. Not in the change log: the hub alone writes sessions.
    static func setSession(
        _ name: ClientIdentity, _ session: MQTTSession?, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) {
        if session != nil { _ = try require(name, in: transaction) }
        try stored { () throws(StoreError) in
            if let session {
                try transaction.put(.sessions, name.key, session.json.bytes())
            } else {
                try transaction.delete(.sessions, name.key)
            }
        }
    }
}
