import Registry
import Serving
import Wire

/// What devices' streams may take (iotstream-protocol(7)).
extension ServiceRequest {
    func quotas() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.registryRead)
        let found = try reading { () throws(RegistryError) in try registry.quotas() }
        return HTTPAnswer(json: .array(found.map { $0.quota.document(of: $0.device) }))
    }

    func quota(of name: ClientIdentity) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "PUT", "DELETE")
        let device = name.deviceID
        switch head.method {
        case "GET":
            try authorize(.registryRead)
            return HTTPAnswer(json: try reading { () throws(RegistryError) in try registry.quota(of: device) }.document(of: device))
        case "PUT":
            try authorize(.registryWrite)
            let json = try json()
            let quota = try reading { () throws(RegistryError) in try Quota(json: json) }
            return put(quota, of: device) { HTTPAnswer(json: quota.document(of: device)) }
        default:
            try authorize(.registryWrite)
            return put(Quota(), of: device) { HTTPAnswer(status: 204) }
        }
    }

    /// Streams keep to it before the answer goes out.
    private func put(_ quota: Quota, of device: String, _ answer: @escaping @Sendable () -> HTTPAnswer) -> HTTPAnswer? {
        let core = self.core
        return commit(.putQuota(device: device, quota)) { _ in
            core.take(quota, of: device)
            return answer()
        }
    }
}
