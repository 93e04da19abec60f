import Console
import LinuxIO
import Wire

/// `forward.conf`: what forward, connect and ssh need not be told each time. An option of the same name goes before it.
enum ProxyConfiguration {
    static let usualPath = "/etc/iotstream/forward.conf"

    static let schema = ConfigurationSchema(keys: [
        .init("connection-string-file", .text),
        .init("ca", .text),
        .init("proxy", .text),
        .init("bind", .text),
        .init("mode", .choice(StreamMode.words)),
        .init("wait", .seconds),
        .init("drain-seconds", .seconds),
        .init("warm", .integer(0...64)),
        .init("identity", .text),
        .init("cert", .text),
        .init("key", .text),
        .init("known-devices", .text),
        .init("device-ca", .text),
    ])

    /// The file that `--config` or the environment names, else the usual one when this user can read it.
    static func load(_ arguments: Arguments) throws(Failure) -> (path: String, top: Configuration.Section)? {
        guard let path = arguments.configFile ?? usual else { return nil }
        let text = try InputFile.text(path, limit: 1 << 20)
        do throws(ConfigurationError) {
            return (path, try Configuration(parsing: text, schema: schema).top)
        } catch {
            throw .config(path: path, line: error.line, reason: error.reason)
        }
    }

    private static var usual: String? { Files.isReadable(usualPath) ? usualPath : nil }
}
