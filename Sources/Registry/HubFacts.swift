import Store
import Wire

/// What the hub leaves for the tools: its names and where its HTTPS listener is.
package struct HubFacts: Equatable, Sendable {
    /// Names the hub answers to; the first is the one that is printed.
    package var names: [String]
    /// The port of the first HTTPS listener.
    package var httpsPort: UInt16
    /// What devices' queues allow.
    package var messages: MessageLimits

    package init(names: [String], httpsPort: UInt16, messages: MessageLimits = MessageLimits()) {
        self.names = names
        self.httpsPort = httpsPort
        self.messages = messages
    }

    static let key = "hub"

    /// The host of a connection string: with a port exactly when that is not 443. Nil while no name is known.
    package var host: HostPort? {
        names.first.map { HostPort(host: $0, port: httpsPort == 443 ? nil : httpsPort) }
    }

    /// `{"names":[…],"httpsPort":443,"messages":…}`, the last as `MessageLimits` has it.
    package var json: JSONValue {
        ["names": .array(names.map { .string($0) }), "httpsPort": .integer(Int64(httpsPort)), "messages": messages.json]
    }

    package init?(json: JSONValue) {
        guard let names = json["names"]?.array, let port = json["httpsPort"]?.integer, let httpsPort = UInt16(exactly: port) else {
            return nil
        }
        self.init(names: names.compactMap(\.string), httpsPort: httpsPort, messages: MessageLimits(json: json["messages"]))
    }
}

extension Registry {
    /// What the last hub of this state directory said of itself; nil when none has run yet.
    package func hubFacts() throws(RegistryError) -> HubFacts? {
        try read { transaction throws(RegistryError) in
            let bytes = try Self.stored { () throws(StoreError) in try transaction.get(.facts, HubFacts.key) }
            return bytes.flatMap { try? JSONValue.parse($0) }.flatMap { HubFacts(json: $0) }
        }
    }
}
