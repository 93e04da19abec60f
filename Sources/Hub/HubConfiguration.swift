import Blobs
import Console
import Registry
import Serving
import Wire

/// What a hub is told by its file and its command line; the line wins.
package struct HubConfiguration: Sendable, Equatable {
    package var serving: ServingSettings
    package var limits: HubLimits
    var telemetry = TelemetrySettings()
    var switches = AttestationSwitches()

    static let schema = ConfigurationSchema(
        keys: ServingSettings.keys + [
            .init("kernel-tls", .choice(["auto", "no"])), .init("max-streams", .integer(1...1_000_000)),
            .init("max-streams-per-device", .integer(1...1_000_000)),
            .init("new-streams-per-second", .integer(1...1_000_000)),
            .init("new-streams-per-second-per-device", .integer(1...1_000_000)), .init("stream-rate", .rate),
            .init("device-rate", .rate), .init("total-rate", .rate), .init("telemetry-partitions", .integer(1...32)),
            .init("telemetry-seconds", .seconds), .init("telemetry-bytes", .bytes), .init("upload-file-bytes", .bytes),
            .init("upload-device-bytes", .bytes), .init("upload-total-bytes", .bytes), .init("upload-notifications", .boolean),
            .init("disable-local-auth", .boolean), .init("disable-device-sas", .boolean), .init("disable-module-sas", .boolean),
            .init("refuse-ca-devices-on-https", .boolean),
            .init("message-queue", .integer(MessageLimits.queueRange)),
            .init("message-deliveries", .integer(MessageLimits.deliveriesRange)),
            .init("message-lock-seconds", .secondsIn(MessageLocks.range)),
            .init("message-seconds", .secondsIn(MessageLimits.secondsRange)), .init("feedback-seconds", .seconds),
        ] + ThrottledOperation.allCases.map { .init($0.key, .frequency) })

    /// Reads the file if there is one, then lays the options over it.
    static func load(_ arguments: Arguments) throws(Failure) -> HubConfiguration {
        let top = try ServingSettings.file(arguments.configFile, usual: "/etc/iotstream/hub.conf", schema: schema)?.top
        var limits = HubLimits()
        limits.streams = top?.integer("max-streams") ?? limits.streams
        limits.streamsPerDevice = top?.integer("max-streams-per-device") ?? limits.streamsPerDevice
        limits.newStreamsPerSecond = top?.integer("new-streams-per-second") ?? limits.newStreamsPerSecond
        limits.newStreamsPerSecondPerDevice = top?.integer("new-streams-per-second-per-device")
        func rate(_ key: String) -> Int? { top?.rate(key).flatMap { $0 > 0 ? $0 : nil } }
        limits.streamRate = rate("stream-rate")
        limits.deviceRate = rate("device-rate")
        limits.totalRate = rate("total-rate")
        limits.uploads.fileBytes = top?.bytes("upload-file-bytes") ?? limits.uploads.fileBytes
        limits.uploads.deviceBytes = top?.bytes("upload-device-bytes") ?? limits.uploads.deviceBytes
        limits.uploads.totalBytes = top?.bytes("upload-total-bytes") ?? limits.uploads.totalBytes
        limits.notifiesOfUploads = top?.boolean("upload-notifications") ?? limits.notifiesOfUploads
        limits.messages.queue = top?.integer("message-queue") ?? limits.messages.queue
        limits.messages.deliveries = top?.integer("message-deliveries") ?? limits.messages.deliveries
        limits.messages.feedbackSeconds = top?.seconds("feedback-seconds").map { max(1, $0) }
        limits.messages.seconds = top?.seconds("message-seconds") ?? limits.messages.seconds
        limits.messageLockSeconds = top?.seconds("message-lock-seconds") ?? limits.messageLockSeconds
        for operation in ThrottledOperation.allCases { limits.throttles[operation] = top?.frequency(operation.key) }
        var switches = AttestationSwitches()
        switches.disablesLocalAuth = top?.boolean("disable-local-auth") ?? false
        switches.disablesDeviceSAS = top?.boolean("disable-device-sas") ?? false
        switches.disablesModuleSAS = top?.boolean("disable-module-sas") ?? false
        switches.refusesAuthorities = top?.boolean("refuse-ca-devices-on-https") ?? false
        var serving = try ServingSettings(top, arguments)
        serving.mayUseKernelTLS = top?.text("kernel-tls") != "no"
        return HubConfiguration(
            serving: serving, limits: limits, telemetry: TelemetrySettings(top), switches: switches)
    }
}

/// What the hub allows, so that no client can use it up.
package struct HubLimits: Sendable, Equatable {
    /// Streams at once: in all, and to one device.
    package var streams = 100_000
    package var streamsPerDevice = 10_000
    package var newStreamsPerSecond = 10_000
    package var newStreamsPerSecondPerDevice: Int?
    /// Bytes per second, both directions together: of one stream, of one device's streams, of all streams. Nil: not limited.
    package var streamRate: Int?
    package var deviceRate: Int?
    package var totalRate: Int?
    /// What the files of devices may take.
    package var uploads = BlobLimits()
    /// Whether services hear of files that have come.
    package var notifiesOfUploads = true
    /// What devices' queues allow, and for how long a message is held for a device that has not settled it.
    package var messages = MessageLimits()
    var messageLockSeconds = MessageLocks.usualSeconds
    /// What may not happen as often as anybody likes.
    var throttles: Throttles.Limits = [:]

    package init() {}
}
