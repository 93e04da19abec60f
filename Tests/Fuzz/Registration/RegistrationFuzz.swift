import Agent
import FuzzSupport
import Wire

/// Answers of a provisioning service, and the file in which an assignment is kept.
@main
enum RegistrationFuzz {
    static func main() {
        runFuzzer { input in
            let name = RegistrationName(endpoint: HostPort(host: "dps.example", port: nil), scope: "0ne1", id: "d"), bytes = input.bytes
            for status in [200, 202, 401, 404, 429, 500] {
                switch RegistrationAnswer(status: status, body: bytes) {
                case .working(let operation): check((1...256).contains(operation.utf8.count), "an operation has a name that fits a path")
                case .assigned(let hub, let device):
                    check(HostPort(parsing: hub.description) == hub, "a hub is a host")
                    check(ClientIdentity(deviceID: device) != nil, "a device is a device")
                    let made = Assignment(name, hub: hub, deviceID: device, thumbprint: nil)
                    check(Assignment(bytes: made.bytes, of: name) == made, "an assignment is read as it is written")
                case .refused(let text), .busy(let text): check(!text.isEmpty && text.utf8.count < 2000, "a reason is short")
                }
            }
            if let read = Assignment(bytes: bytes, of: name) {
                check(Assignment(bytes: read.bytes, of: name) == read, "an assignment is read as it is written")
            }
        }
    }
}
