import FuzzSupport
import Wire

@main
enum ProvisioningFuzz {
    static func main() {
        runFuzzer(fuzzProvisioning)
    }
}

/// One line each: a client id, a user name, a topic.
private func fuzzProvisioning(_ input: inout FuzzInput) {
    let lines = input.bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        .map { String(validating: $0, as: UTF8.self) ?? "" }
    guard lines.count >= 3 else { return }
    if let name = ProvisioningUserName(lines[1], clientID: lines[0]) {
        check(ProvisioningUserName.isVersion(name.apiVersion), "a user name's version is a date")
        check(ASCII.equalIgnoringCase(name.registrationID, lines[0]), "a user name is of its client")
        let again = "\(name.scope)/registrations/\(name.registrationID)/api-version=\(name.apiVersion)"
        check(ProvisioningUserName(again, clientID: lines[0]) == name, "a user name is read as it is written")
    }
    if let request = ProvisioningRequest(topic: lines[2]), let rid = request.rid {
        let topic = ProvisioningRequest.answer(status: 202, rid: rid, retryAfterSeconds: 3)
        let signs = topic.utf8.count { $0 == UInt8(ascii: "$") }
        check(signs == 2 && topic.utf8.count < 1024, "an answer's topic has no sign that was not meant")
    }
}
