import Registry
import Wire

/// Cloud-to-device messages of the service API: sending, purging, and what became of them (service-rest 12).
extension ServiceRequest {
    /// `POST /devices/{id}/messages/deviceBound`.
    func sendMessage(to device: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.serviceConnect)
        let message = try reading { () throws(RegistryError) in
            try CloudMessage(to: device, properties: try MessageFields.properties(in: head.headers), body: body)
        }
        return commit(.enqueue(message, device: device)) { _ in HTTPAnswer(status: 204) }
    }

    /// `DELETE /devices/{id}/commands`.
    func purgeMessages(of device: String) throws(Problem) -> HTTPAnswer? {
        try methods("DELETE")
        try authorize(.serviceConnect)
        return commit(.purge(device: device)) { outcome in
            guard case .removed(let count) = outcome else { return HTTPAnswer(status: 500) }
            return HTTPAnswer(json: ["totalMessagesPurged": .integer(Int64(count)), "deviceId": .string(device), "moduleId": .null])
        }
    }

    /// `GET /messages/serviceBound/feedback`: a batch, held for a while.
    func feedback() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.serviceConnect)
        let batch = try reading { () throws(RegistryError) in
            try core.feedback.take { limit, isFree throws(RegistryError) in try registry.feedback(limit: limit, where: isFree) }
        }
        guard let batch else { return HTTPAnswer(status: 204) }
        return HTTPAnswer(json: .array(batch.records), etag: batch.token)
    }

    /// `DELETE …/feedback/{lockToken}` and `POST …/{lockToken}/abandon`.
    func settleFeedback(_ token: String, abandons: Bool) throws(Problem) -> HTTPAnswer? {
        try methods(abandons ? "POST" : "DELETE")
        try authorize(.serviceConnect)
        guard let records = core.feedback.release(token) else { throw .registry(.lockLost) }
        if abandons { return HTTPAnswer(status: 204) }
        return commit(.removeFeedback(records)) { _ in HTTPAnswer(status: 204) }
    }
}
