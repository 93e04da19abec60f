import Blobs
import Console
import Glibc
import LinuxIO
import Serving
import Wire

/// What a hub is told by its file and its command line; the line wins.
package struct HubConfiguration: Sendable, Equatable {
    /// Names it answers to; the first is the one it prints.
    package var names: [String]
    package var https: [ListenAddress]
    package var mqtts: [ListenAddress]
    package var certificatePath: String?
    package var keyPath: String?
    package var workers: Int
    package var drainSeconds: Int
    package var limits: HubLimits
    var telemetry = TelemetrySettings()

    static let schema = ConfigurationSchema(keys: [
        .list("hostname"), .list("https", of: .address), .list("mqtts", of: .address), .init("tls-cert", .text), .init("tls-key", .text),
        .init("workers", .integer(1...256)), .init("drain-seconds", .seconds), .init("max-connections", .integer(1...10_000_000)),
        .init("max-streams", .integer(1...1_000_000)), .init("max-streams-per-device", .integer(1...1_000_000)),
        .init("new-streams-per-second", .integer(1...1_000_000)), .init("new-streams-per-second-per-device", .integer(1...1_000_000)),
        .init("stream-rate", .rate), .init("device-rate", .rate), .init("total-rate", .rate), .init("request-bytes", .bytes),
        .init("packet-bytes", .bytes), .init("handshake-seconds", .seconds), .init("idle-seconds", .seconds),
        .init("telemetry-partitions", .integer(1...32)), .init("telemetry-seconds", .seconds), .init("telemetry-bytes", .bytes),
        .init("upload-file-bytes", .bytes), .init("upload-device-bytes", .bytes), .init("upload-total-bytes", .bytes),
        .init("upload-notifications", .boolean),
    ])

    /// Reads `path` if there is one, then lays the options over it.
    static func load(path: String?, arguments: Arguments) throws(Failure) -> HubConfiguration {
        var file: Configuration?
        if let path {
            let text = try InputFile.text(path)
            do throws(ConfigurationError) {
                file = try Configuration(parsing: text, schema: schema)
            } catch {
                throw .config(path: path, line: error.line, reason: error.reason)
            }
        }
        let top = file?.top
        func chosen(_ words: [String], _ fallback: [String]?) -> [String] { words.isEmpty ? fallback ?? [] : words }
        func addresses(_ option: String, _ fallback: UInt16) throws(Failure) -> [ListenAddress] {
            let named = try arguments.addresses(option)
            if !named.isEmpty { return named }
            let written = top?.addresses(option) ?? []
            return written.isEmpty ? [ListenAddress(host: "::", port: fallback)] : written
        }
        let names = chosen(arguments.list("hostname"), top?.texts("hostname"))
        for name in names where HostPort(parsing: name).map({ $0.port != nil }) ?? true {
            throw .config("\(name): not a host name", "give the name without a port")
        }
        var limits = HubLimits()
        limits.serving.connections = top?.integer("max-connections") ?? limits.serving.connections
        limits.streams = top?.integer("max-streams") ?? limits.streams
        limits.streamsPerDevice = top?.integer("max-streams-per-device") ?? limits.streamsPerDevice
        limits.newStreamsPerSecond = top?.integer("new-streams-per-second") ?? limits.newStreamsPerSecond
        limits.newStreamsPerSecondPerDevice = top?.integer("new-streams-per-second-per-device")
        func rate(_ key: String) -> Int? { top?.rate(key).flatMap { $0 > 0 ? $0 : nil } }
        limits.streamRate = rate("stream-rate")
        limits.deviceRate = rate("device-rate")
        limits.totalRate = rate("total-rate")
        limits.serving.requestBytes = top?.bytes("request-bytes") ?? limits.serving.requestBytes
        limits.serving.packetBytes = top?.bytes("packet-bytes") ?? limits.serving.packetBytes
        limits.serving.handshakeSeconds = top?.seconds("handshake-seconds") ?? limits.serving.handshakeSeconds
        limits.serving.idleSeconds = top?.seconds("idle-seconds") ?? limits.serving.idleSeconds
        limits.uploads.fileBytes = top?.bytes("upload-file-bytes") ?? limits.uploads.fileBytes
        limits.uploads.deviceBytes = top?.bytes("upload-device-bytes") ?? limits.uploads.deviceBytes
        limits.uploads.totalBytes = top?.bytes("upload-total-bytes") ?? limits.uploads.totalBytes
        limits.notifiesOfUploads = top?.boolean("upload-notifications") ?? limits.notifiesOfUploads
        return HubConfiguration(
            names: names.isEmpty ? [Self.machineName] : names, https: try addresses("https", 443), mqtts: try addresses("mqtts", 8883),
            certificatePath: arguments.text("tls-cert") ?? top?.text("tls-cert"),
            keyPath: arguments.text("tls-key") ?? top?.text("tls-key"),
            workers: try arguments.integer("workers", in: 1...256) ?? top?.integer("workers")
                ?? max(1, Int(sysconf(CInt(_SC_NPROCESSORS_ONLN)))),
            drainSeconds: top?.seconds("drain-seconds") ?? 10, limits: limits, telemetry: TelemetrySettings(top))
    }

    private static var machineName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, 255) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// What the hub allows, so that no client can use it up.
package struct HubLimits: Sendable, Equatable {
    /// Of connections and requests.
    package var serving = ServingLimits()
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

    package init() {}
}
