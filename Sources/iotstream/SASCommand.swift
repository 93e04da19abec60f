import Console
import Registry
import Wire

/// `iotstream sas`: a shared access signature for a device, a module or a policy.
enum SASCommand {
    static let command = Command(
        name: "sas", summary: "prints a shared access signature",
        details: "Whoever holds it is taken for the device, the module or the holder of the policy until it expires.",
        options: Administration.options + [
            .value("device", "ID", "for this device"), .value("module", "ID", "for this module of the device"),
            .value("policy", "NAME", "for a service, with this policy's rights"),
            .value("ttl", "TIME", "how long it is good: 1h (the default), 30m, 7d"), .flag("secondary", "signed with the secondary key"),
            ConnectionStrings.hostname,
        ],
        examples: [
            Example("iotstream sas --device press-17 --ttl 30m", "for a device's password in MQTT"),
            Example("iotstream sas --policy iothubowner", "for the header Authorization of a REST call"),
        ],
        run: run)

    @Sendable private static func run(_ arguments: Arguments) throws(Failure) {
        let (device, policy) = (arguments.text("device"), arguments.text("policy"))
        guard (device == nil) != (policy == nil) else { throw .usage("either --device or --policy is needed", "see iotstream sas --help") }
        if arguments.flag("module"), device == nil { throw .usage("--module needs --device") }
        let seconds = try arguments.seconds("ttl", in: 1...Int(Int32.max)) ?? 3_600
        let expiry = Timestamp.now.seconds + Int64(seconds)
        let isSecondary = arguments.flag("secondary")
        let hub = try Administration.find(arguments)
        let host = try hub.hubHost(arguments).host

        let token: String
        if let device {
            let name = try ClientIdentity.device(device, module: arguments.text("module"))
            let keys = try hub.identity(name)["authentication"]?["symmetricKey"]
            let key = try ConnectionStrings.key(keys, secondary: isSecondary, of: name.clientID)
            token = SASToken.make(resource: "\(host)/\(name.path)", key: key, expiry: expiry)
        } else {
            let name = policy ?? ""
            let key = try ConnectionStrings.key(try hub.policy(name), secondary: isSecondary, of: name)
            token = SASToken.make(resource: host, key: key, expiry: expiry, policy: name)
        }
        try arguments.wantsJSON
            ? Output.json(["sharedAccessSignature": .string(token), "expiry": .integer(expiry)]) : Output.line(token)
    }
}
