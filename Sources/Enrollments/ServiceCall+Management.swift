import Bytes
import TLS
import Wire

/// Linked hubs, CA certificates, policies and settings (dps 15), in the form of the rest of the service API.
extension ServiceCall {
    mutating func management(_ path: [String]) throws(ServiceProblem) -> Step {
        try method(path.count == 1 ? path[0] == "settings" ? "GET, PUT" : "GET" : path.count == 3 ? "POST" : "GET, PUT, DELETE")
        try authorize(.serviceConfig)
        let name = path.count > 1 ? path[1] : ""
        switch (path[0], path.count, head.method) {
        case ("settings", _, "GET"):
            return .answer(ServiceAnswer(200, try asking { () throws(EnrollmentError) in try enrollments.settings() }.json))
        case ("settings", _, _):
            let text = try json()["allocationPolicy"]?.string ?? ""
            let policy = try asking { () throws(EnrollmentError) in try AllocationPolicy(parsing: text) }
            return .commit(.setAllocation(policy)) { _ in ServiceAnswer(204) }
        case (let kind, _, "GET"): return try list(kind, path.count > 1 ? name : nil)
        case ("linkedHubs", _, "PUT"):
            var document = try json()
            document["name"] = .string(name)
            return commit(.putHub(document))
        case ("policies", _, "PUT"): return commit(.putPolicy(name: name, try json()))
        case ("certificates", 2, "PUT"):
            let properties = try json()["properties"] ?? .null
            let isVerified = try asking { () throws(EnrollmentError) in try properties.flag("isVerified") } ?? false
            return commit(.putCertificate(name: name, try certificate(in: properties), isVerified: isVerified, condition))
        case ("certificates", 3, _) where path[2] == "generateVerificationCode":
            return commit(.makeVerificationCode(certificate: name, condition))
        case ("certificates", 3, _) where path[2] == "verify":
            return commit(.verifyCertificate(name: name, by: try certificate(in: try json()), condition))
        case ("linkedHubs", 2, _): return delete(.deleteHub(name: name))
        case ("policies", 2, _): return delete(.deletePolicy(name: name))
        case ("certificates", 2, _): return delete(.deleteCertificate(name: name, condition))
        default: throw .error(.refused(code: 404000, "no such resource"))
        }
    }

    /// Everything of a kind, or what has that name.
    private func list(_ kind: String, _ name: String?) throws(ServiceProblem) -> Step {
        let documents: [JSONValue] = try asking { () throws(EnrollmentError) in
            switch kind {
            case "linkedHubs": try enrollments.hubs().map { $0.json() }
            case "policies": try enrollments.policies().map(\.json)
            default: try enrollments.certificates().map { $0.json() }
            }
        }
        guard let name else { return .answer(ServiceAnswer(200, .array(documents))) }
        let key = kind == "policies" ? "keyName" : "name"
        guard let found = documents.first(where: { ASCII.equalIgnoringCase($0[key]?.string ?? "", name) }) else {
            throw .error(.notFound("no \(name) among \(kind)"))
        }
        return .answer(ServiceAnswer(200, found, etag: found["etag"]?.string))
    }

    private func certificate(in json: JSONValue) throws(ServiceProblem) -> Certificate {
        try asking { () throws(EnrollmentError) in try Certificate(written: try json.text("certificate") ?? "") }
    }

    private func commit(_ command: EnrollmentCommand) -> Step {
        .commit(command) { outcome in ServiceAnswer(200, outcome.json, etag: outcome.json?["etag"]?.string) }
    }

    private func delete(_ command: EnrollmentCommand) -> Step { .commit(command) { _ in ServiceAnswer(204) } }
}
