import Console
import Serving
import Wire

/// What a provisioning service is told by its file and its command line; the line wins.
struct ProvisioningConfiguration: Sendable, Equatable {
    var serving: ServingSettings
    /// The id scope that the service is to have; nil: the one it has.
    var scope: String?
    /// Roots that the certificates of linked hubs, and those of webhooks, chain to; nil: the system's.
    var hubAuthority, webhookAuthority: String?
    var limits = RegistrationLimits()
    /// Whether the file says what the service is called.
    var namesItself = false

    static let schema = ConfigurationSchema(
        keys: ServingSettings.keys + [
            .init("id-scope", .text), .init("hub-ca", .text), .init("webhook-ca", .text),
            .init("max-registrations", .integer(1...1_000_000)), .init("registrations-per-second", .integer(1...1_000_000)),
            .init("hub-requests", .integer(1...1000)), .init("hub-seconds", .seconds),
        ])

    /// Reads the file if there is one, then lays the options over it.
    ///
    /// - Parameter file: its path; nil: the usual one.
    static func load(file: String?, _ arguments: Arguments) throws(Failure) -> ProvisioningConfiguration {
        let top = try ServingSettings.file(file, usual: "/etc/iotstream/dps.conf", schema: schema)?.top
        var limits = RegistrationLimits()
        limits.atOnce = top?.integer("max-registrations") ?? limits.atOnce
        limits.perSecond = top?.integer("registrations-per-second") ?? limits.perSecond
        limits.hubRequests = top?.integer("hub-requests") ?? limits.hubRequests
        limits.hubSeconds = top?.seconds("hub-seconds") ?? limits.hubSeconds
        return ProvisioningConfiguration(
            serving: try ServingSettings(top, arguments), scope: arguments.text("id-scope") ?? top?.text("id-scope"),
            hubAuthority: arguments.text("hub-ca") ?? top?.text("hub-ca"), webhookAuthority: top?.text("webhook-ca"), limits: limits,
            namesItself: !(top?.texts("hostname").isEmpty ?? true))
    }
}

/// What devices may ask of the service, and the service of hubs.
struct RegistrationLimits: Sendable, Equatable {
    /// Registrations under way; more are told to come again.
    var atOnce = 50_000
    /// Registrations begun in one second.
    var perSecond = 5000
    /// Requests to one hub at once; others wait for their turn.
    var hubRequests = 16
    /// Seconds for which a hub that does not answer is asked again.
    var hubSeconds = 120
}
