import Bytes
import Registry
import Telemetry
import Wire

/// Makes records of the telemetry log out of what devices send (mqtt-device 10).
enum TelemetryIntake {
    /// Bytes of body and properties together.
    static let mostBytes = 256 << 10

    private static let keys: [(SystemProperty, TelemetryKey)] = [
        (.messageID, .messageID), (.correlationID, .correlationID), (.userID, .userID), (.to, .to), (.contentType, .contentType),
        (.contentEncoding, .contentEncoding), (.absoluteExpiry, .absoluteExpiry), (.creationTime, .creationTime), (.component, .component),
        (.interfaceID, .interfaceID), (.messageSchema, .messageSchema), (.outputName, .outputName), (.diagnosticID, .diagnosticID),
        (.diagnosticContext, .diagnosticContext),
    ]

    /// All of a message but its body.
    /// - Parameters:
    ///   - model: that the connection announced.
    ///   - extra: properties that the hub adds to the application's.
    static func envelope(
        _ bag: PropertyBag, from principal: DevicePrincipal, model: String? = nil, extra: [TelemetryEnvelope.Property] = []
    ) -> TelemetryEnvelope {
        var system: [TelemetryEnvelope.SystemProperty] = []
        if !bag.isEmpty { for (property, key) in keys { if let value = bag[property] { system.append(.init(key, value)) } } }
        if let model, !model.isEmpty { system.append(.init(.dataSchema, model)) }
        system.append(.init(.generationID, principal.generationID))
        return TelemetryEnvelope(
            deviceID: principal.name.deviceID, moduleID: principal.name.moduleID, authentication: authentication(principal),
            system: system, application: bag.application.map { .init($0.key, $0.value) } + extra)
    }

    private static func authentication(_ principal: DevicePrincipal) -> TelemetryAuthentication {
        let own: TelemetryAuthentication.Scope = principal.name.moduleID == nil ? .device : .module
        return switch principal.method {
        case .key: TelemetryAuthentication(own, .sas)
        case .policy: TelemetryAuthentication(.hub, .sas)
        case .thumbprint: TelemetryAuthentication(own, .x509)
        case .authority: TelemetryAuthentication(own, .x509, issuer: .external)
        }
    }
}
