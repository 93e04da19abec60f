import Console
import Wire

/// What a stream leads to. Prints as `mydevice:22` or `mydevice/module:22`.
struct StreamTarget: Hashable, Sendable, CustomStringConvertible {
    let client: ClientIdentity
    /// The stream's name: a port in decimal, or a name that the agent offers.
    let remote: String

    init(client: ClientIdentity, remote: String) {
        self.client = client
        self.remote = remote
    }

    /// Path and query of the request that opens it (device-streams 3.1).
    var requestTarget: String {
        func encoded(_ text: String) -> String { PercentCoding.encode(text, leaving: .unreserved) }
        let module = client.moduleID.map { "/modules/\(encoded($0))" } ?? ""
        return "/twins/\(encoded(client.deviceID))\(module)/streams/\(encoded(remote))?api-version=2021-04-12"
    }

    var description: String { "\(client):\(remote)" }

    /// The device that the words name.
    static func client(_ device: String, module: String?) throws(Failure) -> ClientIdentity {
        guard Identifier.isValidID(device) else { throw .usage("\(device): not a device's id") }
        guard let client = ClientIdentity(deviceID: device, moduleID: module) else {
            throw .usage("--module \(module ?? ""): not a module's id")
        }
        return client
    }
}
