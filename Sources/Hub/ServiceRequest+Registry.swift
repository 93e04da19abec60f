import Registry
import Serving
import Wire

/// Identities, statistics and policies (service-rest 5 to 8).
extension ServiceRequest {
    private var condition: IfMatch { IfMatch(header: head.headers["If-Match"]) }

    private func document(_ identity: Identity) -> HTTPAnswer {
        HTTPAnswer(json: identity.document(live: core.liveState(identity.name)), etag: identity.etag)
    }

    func devices() throws(Problem) -> HTTPAnswer? {
        try methods("GET", "POST")
        if head.method == "POST" {
            try authorize(.registryWrite, .registry)
            let json = try json()
            let entries = try reading { () throws(RegistryError) in try BulkEntry.parse(body: json) }
            return commit(.bulk(entries)) { outcome in
                guard let report = outcome.bulk else { return HTTPAnswer(status: 500) }
                var answer = HTTPAnswer(status: report.isSuccessful ? 200 : 400, json: report.json)
                if !report.isSuccessful { answer.headers.add("iothub-errorcode", "BulkRegistryOperationFailure") }
                return answer
            }
        }
        try authorize(.registryRead, .registry)
        let top = head.queryValue("top").flatMap { Int($0) } ?? 1000
        let found = try reading { () throws(RegistryError) in try registry.devices(top: (1...1000).contains(top) ? top : 1000) }
        return HTTPAnswer(json: .array(found.map { $0.document(live: core.liveState($0.name)) }))
    }

    func identity(_ name: ClientIdentity) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "PUT", "DELETE")
        switch head.method {
        case "GET":
            try authorize(.registryRead, .registry)
            return document(try reading { () throws(RegistryError) in try registry.identity(name) })
        case "PUT":
            try authorize(.registryWrite, .registry)
            let json = try json()
            let request = try reading { () throws(RegistryError) in try IdentityRequest(json: json, for: name) }
            let core = self.core
            return commit(.putIdentity(name, request, condition)) { outcome in
                guard case .identity(let identity, let isNew) = outcome else { return HTTPAnswer(status: 500) }
                // The Python package takes 200 alone for devices, and 201 too for modules (service-rest 5.2, 6).
                return HTTPAnswer(
                    status: isNew && name.moduleID != nil ? 201 : 200,
                    json: identity.document(live: core.liveState(name)), etag: identity.etag)
            }
        default:
            try authorize(.registryWrite, .registry)
            return commit(.deleteIdentity(name, condition)) { _ in HTTPAnswer(status: 204) }
        }
    }

    func modules(of device: String) throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.registryRead, .registry)
        let found = try reading { () throws(RegistryError) in try registry.modules(of: device) }
        return HTTPAnswer(json: .array(found.map { $0.document(live: core.liveState($0.name)) }))
    }

    /// `POST …/keys/{primary|secondary|swap}`: a key made anew, or the two changed about.
    func rotate(_ name: ClientIdentity, slot: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.registryWrite)
        guard let slot = KeySlot(rawValue: slot) else { throw .registry(.argumentInvalid("the key is primary, secondary or swap")) }
        let core = self.core
        return commit(.rotateKey(name, slot, condition)) { outcome in
            guard let identity = outcome.identity else { return HTTPAnswer(status: 500) }
            return HTTPAnswer(json: identity.document(live: core.liveState(name)), etag: identity.etag)
        }
    }

    func statistics(_ kind: String) throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        switch kind {
        case "devices":
            try authorize(.registryRead)
            return HTTPAnswer(json: try reading { () throws(RegistryError) in try registry.statistics().json })
        case "service":
            try authorize(.serviceConnect)
            return HTTPAnswer(json: ["connectedDeviceCount": .integer(Int64(core.directory.count))])
        default: throw .answer(HTTPAnswer(status: 404, errorName: "NotFound", message: "no such resource"))
        }
    }

    // Policies: their keys open everything, so every right is asked for.

    private func authorizePolicies() throws(Problem) {
        let principal = try authorize(.registryWrite)
        guard principal.rights.isSuperset(of: .all) else { throw .registry(.forbidden) }
    }

    func policies() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorizePolicies()
        return HTTPAnswer(json: .array(try reading { () throws(RegistryError) in try registry.policies() }.map(\.json)))
    }

    func policy(_ name: String) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "PUT", "DELETE")
        try authorizePolicies()
        switch head.method {
        case "GET": return HTTPAnswer(json: try reading { () throws(RegistryError) in try registry.policy(name).json })
        case "PUT":
            let wanted = try json()["rights"]
            let text = wanted?.string ?? (wanted?.array ?? []).compactMap(\.string).joined(separator: ",")
            let rights = try reading { () throws(RegistryError) in try Rights(parsing: text) }
            let isThere = (try? registry.policy(name)) != nil && condition != .absent
            return commit(isThere ? .setRights(policy: name, rights) : .createPolicy(name: name, rights)) { outcome in
                outcome.policy.map { HTTPAnswer(json: $0.json) } ?? HTTPAnswer(status: 500)
            }
        default: return commit(.deletePolicy(name: name, force: head.queryValue("force") == "true")) { _ in HTTPAnswer(status: 204) }
        }
    }

    func rotatePolicy(_ name: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorizePolicies()
        guard let slot = KeySlot(rawValue: head.queryValue("key") ?? "primary") else {
            throw .registry(.argumentInvalid("the key is primary, secondary or swap"))
        }
        return commit(.rotatePolicy(name: name, slot)) { outcome in
            outcome.policy.map { HTTPAnswer(json: $0.json) } ?? HTTPAnswer(status: 500)
        }
    }
}
