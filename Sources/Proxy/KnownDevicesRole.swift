import Console
import Trust
import Wire

/// `iotstream known-devices`: the keys of devices that were written down at their first streams.
package enum KnownDevicesRole {
    package static let command = Command(
        name: "known-devices", summary: "show and remove the keys of devices that are remembered",
        details: """
            forward, connect and ssh write down the key that a device shows at the first stream, and refuse any other from then on. When a \
            device has a new key, compare its fingerprint with `iotstream agent --fingerprint` on the device, then remove the old one here.
            """,
        options: [.config, ServiceTrust.identityOption, ServiceTrust.knownDevicesOption, .json],
        subcommands: [list, remove],
        examples: [Example("iotstream known-devices remove press-17", "the next stream writes down what it shows then")])

    private static let list = Command(name: "list", summary: "lists the keys", run: runList)

    private static let remove = Command(
        name: "remove", summary: "forgets a device",
        options: [
            .value("hub", "HOST", "only as it is known at this hub (else at every hub)"),
            .value("module", "M", "this module of the device"),
        ],
        operands: [Operand("DEVICE", .one, "the device's id")], run: runRemove)

    private static func known(_ arguments: Arguments) throws(Failure) -> KnownDevices {
        let top = try ProxyConfiguration.load(arguments)?.top
        guard let path = ServiceTrust.knownDevices(arguments, top) else {
            throw .config("no home directory", "name a directory with --identity")
        }
        return KnownDevices(path: path) { Output.warn(role: "known-devices", $0) }
    }

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let known = try known(arguments), entries: [KnownDevices.Entry]
        do throws(TrustError) { entries = try known.all() } catch { throw Failure(error) }
        guard !arguments.wantsJSON else {
            return try Output.json(
                .array(
                    entries.map { entry in
                        .object(of: [
                            "hub": .string(entry.pin.hub), "device": .string(entry.pin.device.deviceID),
                            "module": entry.pin.device.moduleID.map { .string($0) },
                            "fingerprint": .string(entry.pin.fingerprint.description),
                            "comment": entry.pin.comment.isEmpty ? nil : .string(entry.pin.comment), "line": .integer(Int64(entry.line)),
                        ])
                    }))
        }
        try Output.table(
            ["HUB", "DEVICE", "FINGERPRINT", "COMMENT"],
            entries.map { [$0.pin.hub, $0.pin.device.clientID, $0.pin.fingerprint.description, $0.pin.comment] })
    }

    @Sendable private static func runRemove(_ arguments: Arguments) throws(Failure) {
        let known = try known(arguments)
        let device = try StreamTarget.client(arguments.required("DEVICE"), module: arguments.text("module"))
        var hub: HostPort?
        if let text = arguments.text("hub") {
            guard let place = HostPort(parsing: text) else { throw .usage("--hub \(text): not a host or host:port") }
            hub = place
        }
        let count: Int
        do throws(TrustError) { count = try known.remove(device: device, hub: hub) } catch { throw Failure(error) }
        guard count > 0 else { throw .refused("\(device) is not in \(known.path)", "iotstream known-devices list shows who is") }
        if arguments.wantsJSON {
            try Output.json(.object(of: ["device": .string(device.clientID), "removed": .integer(Int64(count))]))
        } else {
            Output.tell("\(count) key\(count == 1 ? "" : "s") of \(device) removed from \(known.path)")
        }
    }
}

extension Failure {
    /// What is wrong with a key or a list of keys, as a command's end.
    init(_ error: TrustError) { self.init(exitCode: error.exitStatus, error.what, error.remedy) }
}
