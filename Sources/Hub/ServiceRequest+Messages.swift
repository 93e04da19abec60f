import Registry
import Serving
import Wire

/// Cloud-to-device messages of the service API: sending, purging, and what became of them (service-rest 12).
extension ServiceRequest {
    /// `POST /devices/{id}/messages/deviceBound`.
    func sendMessage(to device: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.serviceConnect, .messages)
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

    /// `/messages/serviceBound/feedback` and what is below it.
    func feedback(_ rest: [String]) throws(Problem) -> HTTPAnswer? {
        try serviceBound(
            rest, core.feedback, { limit, isFree throws(RegistryError) in try registry.feedback(limit: limit, where: isFree) },
            remove: { .removeFeedback($0) })
    }

    /// What waits for services, in batches: `GET` gives one out and holds it for a while, `DELETE /{lockToken}` is done with it,
    /// `POST /{lockToken}/abandon` gives it back.
    func serviceBound(
        _ rest: [String], _ locks: BatchLocks, _ read: (Int, (UInt64) -> Bool) throws(RegistryError) -> [MessageFeedback],
        remove: ([UInt64]) -> RegistryCommand
    ) throws(Problem) -> HTTPAnswer? {
        guard rest.count < 2 || rest.count == 2 && rest[1] == "abandon" else {
            throw .answer(HTTPAnswer(status: 404, errorName: "NotFound", message: "no such resource"))
        }
        try methods(["GET", "DELETE", "POST"][rest.count])
        try authorize(.serviceConnect)
        guard let token = rest.first else {
            let batch = try reading { () throws(RegistryError) in try locks.take(read) }
            guard let batch else { return HTTPAnswer(status: 204) }
            return HTTPAnswer(json: .array(batch.records), etag: batch.token)
        }
        guard let records = locks.release(token) else { throw .registry(.lockLost) }
        if rest.count == 2 { return HTTPAnswer(status: 204) }
        return commit(remove(records)) { _ in HTTPAnswer(status: 204) }
    }
}
