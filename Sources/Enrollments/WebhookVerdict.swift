import Wire

/// What a webhook's answer comes to (dps 10.5).
struct WebhookVerdict {
    enum Outcome {
        case hub(String)
        case refused(String)
    }

    let outcome: Outcome
    /// In the place of the enrollment's.
    var twin: JSONValue?
    /// For the device.
    var payload: JSONValue?

    init(_ answer: WebhookAnswer, candidates: [String]) {
        guard let status = answer.status else {
            outcome = .refused("Custom allocation failed: the webhook did not answer")
            return
        }
        guard status == 200 else {
            outcome = .refused("Custom allocation failed with status code: \(status)")
            return
        }
        guard let json = try? JSONValue.parse(answer.body, depth: 40, limit: 1 << 20), let host = json["iotHubHostName"]?.string,
            candidates.contains(where: { ASCII.equalIgnoringCase($0, host) })
        else {
            outcome = .refused("Custom allocation failed: the webhook's answer with status code 200 names no linked hub")
            return
        }
        do throws(EnrollmentError) {
            if let twin = try json.object("initialTwin") { self.twin = try Enrollment.twin(twin) }
        } catch {
            outcome = .refused("Custom allocation failed: initialTwin of the webhook's answer: \(error)")
            return
        }
        outcome = .hub(host)
        if let payload = json["payload"], !payload.isNull { self.payload = payload }
    }
}
