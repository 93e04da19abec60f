import Dialing
import Wire

/// What an answer of a provisioning service means (dps 3, 6 and 7).
package enum RegistrationAnswer: Equatable, Sendable {
    /// It is at work: to be asked again under this name, which stands in a path as it is.
    case working(operation: String)
    case assigned(hub: HostPort, deviceID: String)
    /// The service does not want this device; asking soon would not help.
    case refused(String)
    /// It may do better later.
    case busy(String)

    /// The longest text of an answer that is repeated, in characters.
    private static let longest = 200
    /// The longest name of an operation.
    private static let longestOperation = 256

    /// - Parameter body: JSON as it came; whatever it holds, this ends.
    package init(status: Int, body: [UInt8]) {
        let json = try? JSONValue.parse(body, depth: 32, limit: 64 << 10), state = json?["registrationState"]
        func text(_ value: JSONValue?) -> String? {
            value?.string.flatMap { $0.isEmpty ? nil : String(String.UnicodeScalarView($0.unicodeScalars.prefix(Self.longest))) }
        }
        switch status {
        case 200, 202:
            switch json?["status"]?.string ?? state?["status"]?.string {
            case "assigned": self = Self.assignment(state)
            case "assigning", "unassigned", "registering":
                guard let operation = json?["operationId"]?.string, Self.isOperation(operation) else {
                    self = .busy("the provisioning service gave no name for the operation")
                    return
                }
                self = .working(operation: operation)
            case "disabled": self = .refused("the provisioning service has disabled this device")
            case "failed":
                let reason = text(state?["errorMessage"]) ?? "no reason given", code = state?["errorCode"]?.integer.map { " (\($0))" } ?? ""
                self = .refused("the provisioning service could not place this device: \(reason)\(code)")
            default: self = .busy("the provisioning service's answer cannot be understood")
            }
        case 401, 403:
            self = .refused(
                "the provisioning service does not accept this device's credentials, or the device is disabled"
                    + (text(json?["message"]).map { ": \($0)" } ?? ""))
        case 400, 402..<429, 430..<500:
            let words = text(json?["message"]).map { ": \($0)" } ?? ""
            self = .refused("the provisioning service answered \(status) \(HTTPReason.phrase(status))\(words)")
        default: self = .busy("the provisioning service answered \(status) \(HTTPReason.phrase(status))")
        }
    }

    private static func assignment(_ state: JSONValue?) -> RegistrationAnswer {
        guard let word = state?["assignedHub"]?.string, let hub = HostPort(parsing: word) else {
            return .refused("the provisioning service assigned something that is no host name")
        }
        guard let device = state?["deviceId"]?.string, ClientIdentity(deviceID: device) != nil else {
            return .refused("the provisioning service assigned something that is no device id")
        }
        // Our own service says where the hub's HTTPS is when that is not 443.
        let port = hub.port ?? state?["assignedHubPort"]?.integer.flatMap { UInt16(exactly: $0) }.flatMap { $0 > 0 ? $0 : nil }
        return .assigned(hub: HostPort(host: hub.host, port: port), deviceID: device)
    }

    private static func isOperation(_ text: String) -> Bool { (1...longestOperation).contains(text.utf8.count) && !text.utf8.contains(0) }

    /// Seconds that the service wants to be left alone, at most an hour; nil when it does not say.
    package static func retryAfter(_ headers: HTTPHeaders) -> Int? {
        headers["Retry-After"].flatMap { Int($0) }.map { min(max($0, 0), 3600) }
    }
}
