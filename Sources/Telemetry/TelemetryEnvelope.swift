/// All of a message but its body: who sent it, and what is said about it (mqtt-device sections 9 and 10).
package struct TelemetryEnvelope: Equatable, Sendable {
    /// A property the application set; null where a key stood alone.
    package struct Property: Equatable, Sendable {
        package var name: String
        package var value: String?

        package init(_ name: String, _ value: String?) {
            self.name = name
            self.value = value
        }
    }

    /// One system property.
    package struct SystemProperty: Equatable, Sendable {
        package var key: TelemetryKey
        package var value: String

        package init(_ key: TelemetryKey, _ value: String) {
            self.key = key
            self.value = value
        }
    }

    /// The device that sent it, which also decides the partition.
    package var deviceID: String
    /// The device's module that sent it.
    package var moduleID: String?
    package var source: TelemetrySource
    /// How the connection was authenticated; nil when that is not known.
    package var authentication: TelemetryAuthentication?
    /// In the order given; a key ought to be there once.
    package var system: [SystemProperty]
    /// In the order given.
    package var application: [Property]

    package init(
        deviceID: String, moduleID: String? = nil, source: TelemetrySource = .telemetry, authentication: TelemetryAuthentication? = nil,
        system: [SystemProperty] = [], application: [Property] = []
    ) {
        self.deviceID = deviceID
        self.moduleID = moduleID
        self.source = source
        self.authentication = authentication
        self.system = system
        self.application = application
    }

    /// A system property's value.
    package subscript(key: TelemetryKey) -> String? { system.first { $0.key == key }?.value }
}

/// System properties by their numbers in a record, iotstream-telemetry(5). Numbers are never used anew.
package enum TelemetryKey: UInt8, CaseIterable, Sendable {
    case messageID = 1
    case correlationID = 2
    case userID = 3
    case to = 4
    case contentType = 5
    case contentEncoding = 6
    /// ISO 8601.
    case absoluteExpiry = 7
    case creationTime = 8
    case component = 9
    case interfaceID = 10
    /// The model of the connection.
    case dataSchema = 11
    case messageSchema = 12
    case outputName = 13
    case diagnosticID = 14
    case diagnosticContext = 15
    /// The generation of the identity that sent it.
    case generationID = 16

    /// The name under which a reader sees it (amqp section 10).
    package var name: String {
        switch self {
        case .messageID: "message-id"
        case .correlationID: "correlation-id"
        case .userID: "user-id"
        case .to: "to"
        case .contentType: "content-type"
        case .contentEncoding: "content-encoding"
        case .absoluteExpiry: "absolute-expiry-time"
        case .creationTime: "iothub-creation-time-utc"
        case .component: "dt-subject"
        case .interfaceID: "iothub-interface-id"
        case .dataSchema: "dt-dataschema"
        case .messageSchema: "iothub-message-schema"
        case .outputName: "iothub-outputname"
        case .diagnosticID: "Diagnostic-Id"
        case .diagnosticContext: "Correlation-Context"
        case .generationID: "iothub-connection-auth-generation-id"
        }
    }
}

/// What a message is about, by its number in a record; `name` is the value of `iothub-message-source` (mqtt-device 10.6).
package enum TelemetrySource: UInt8, CaseIterable, Sendable {
    case telemetry = 0
    case twinChange = 1
    case deviceLifecycle = 2
    case connectionState = 3
    case digitalTwinChange = 4
    case jobLifecycle = 5

    package var name: String {
        switch self {
        case .telemetry: "Telemetry"
        case .twinChange: "twinChangeEvents"
        case .deviceLifecycle: "deviceLifecycleEvents"
        case .connectionState: "deviceConnectionStateEvents"
        case .digitalTwinChange: "digitalTwinChangeEvents"
        case .jobLifecycle: "deviceJobLifecycleEvents"
        }
    }
}

/// How the sender of a message was authenticated (mqtt-device 10.2); one byte in a record.
package struct TelemetryAuthentication: Equatable, Sendable {
    package enum Scope: String, CaseIterable, Sendable { case device, module, hub }
    package enum Kind: String, CaseIterable, Sendable { case sas, x509 }
    package enum Issuer: String, CaseIterable, Sendable { case hub = "iothub", external }

    package var scope: Scope
    package var kind: Kind
    package var issuer: Issuer

    package init(_ scope: Scope, _ kind: Kind, issuer: Issuer = .hub) {
        self.scope = scope
        self.kind = kind
        self.issuer = issuer
    }

    /// `1000 IKSS`: scope in the lowest two bits, then kind and issuer, in the order of their cases; 0 as a whole is "not known".
    init?(byte: UInt8) {
        guard byte & 0xF0 == 0x80, byte & 3 < Scope.allCases.count else { return nil }
        self.init(Scope.allCases[Int(byte & 3)], byte & 4 == 0 ? .sas : .x509, issuer: byte & 8 == 0 ? .hub : .external)
    }

    var byte: UInt8 {
        let scope: UInt8 = scope == .device ? 0 : scope == .module ? 1 : 2
        return 0x80 | scope | (kind == .x509 ? 4 : 0) | (issuer == .external ? 8 : 0)
    }

    /// The value of `iothub-connection-auth-method`, as the service writes it.
    package var json: String {
        #"{"scope":"\#(scope.rawValue)","type":"\#(kind.rawValue)","issuer":"\#(issuer.rawValue)","acceptingIpFilterRule":null}"#
    }
}
