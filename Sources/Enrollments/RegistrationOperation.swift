import Bytes
import Wire

/// A registration under way, or one that has lately ended. It is on the disk before the first hub is asked, so that it goes on after
/// a crash where it was.
package struct RegistrationOperation: Sendable {
    /// Opaque to clients; needs no percent-encoding.
    package let id: String
    package let registrationID: String
    package let enrollment: EnrollmentName
    /// What the hub is to know the device by; null once the operation has ended.
    package fileprivate(set) var authentication: JSONValue
    package let attestationType: String
    package let attestation: JSONValue
    /// What the device has sent along for the webhook.
    package let payload: JSONValue?
    /// The client is so old that it stays where it is unless a policy says otherwise (dps 1).
    package let isSticky: Bool
    package let begun: Timestamp
    /// Whom to ask first; nil when nobody is to be asked, or has been.
    package internal(set) var webhook: WebhookCall?
    /// What is to be done; nil while a webhook is to be asked.
    package internal(set) var plan: AssignmentPlan?
    /// The member `registrationState` of the end.
    package fileprivate(set) var state: JSONValue?
    package fileprivate(set) var ended: Timestamp?

    package var hasEnded: Bool { ended != nil }
    package var key: String { registrationID.lowercased() }

    /// A RegistrationOperationStatus (dps 6.1).
    ///
    /// - Parameter brief: without the state of one that runs: the answer to the register request.
    package func json(brief: Bool = false) -> JSONValue {
        let running: JSONValue? = brief ? .none : ["registrationId": .string(registrationID), "status": "assigning"]
        return .object(of: [
            "operationId": .string(id), "status": state?["status"] ?? "assigning", "registrationState": state ?? running,
        ])
    }

    init(id: String, _ admission: Admission, payload: JSONValue?, isSticky: Bool, now: Timestamp) {
        self.id = id
        registrationID = admission.registrationID
        enrollment = admission.enrollment.name
        authentication = admission.authentication
        attestationType = admission.attestationType
        attestation = admission.attestation
        self.payload = payload
        self.isSticky = isSticky
        begun = now
    }

    mutating func end(_ state: JSONValue, now: Timestamp) {
        self.state = state
        ended = now
        authentication = .null
        webhook = nil
    }

    /// What the store keeps.
    var record: JSONValue {
        .object(of: [
            "operationId": .string(id), "registrationId": .string(registrationID), "kind": .string(enrollment.kind.rawValue),
            "enrollment": .string(enrollment.id), "authentication": authentication, "type": .string(attestationType),
            "attestation": attestation, "payload": payload, "sticky": .bool(isSticky), "begun": .string(begun.description),
            "webhook": webhook?.json, "plan": plan?.json, "state": state, "ended": ended.map { .string($0.description) },
        ])
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let id = json["operationId"]?.string,
            let registrationID = json["registrationId"]?.string, let kind = json["kind"]?.string.flatMap({ EnrollmentKind(rawValue: $0) }),
            let enrollment = json["enrollment"]?.string.flatMap({ try? EnrollmentName(kind, $0) }),
            let begun = json["begun"]?.string.flatMap({ Timestamp(parsing: $0) })
        else { return nil }
        self.id = id
        self.registrationID = registrationID
        self.enrollment = enrollment
        self.begun = begun
        authentication = json["authentication"] ?? .null
        attestationType = json["type"]?.string ?? "symmetricKey"
        attestation = json["attestation"] ?? [:]
        payload = json["payload"]
        isSticky = json["sticky"]?.bool ?? false
        webhook = json["webhook"].flatMap { WebhookCall(json: $0) }
        plan = json["plan"].flatMap { AssignmentPlan(json: $0) }
        state = json["state"]
        ended = json["ended"]?.string.flatMap { Timestamp(parsing: $0) }
    }
}

/// What is to be done at the hubs for a registration (dps 10.3). Every step may be taken again.
package struct AssignmentPlan: Sendable, Equatable {
    package enum Work: String, Sendable {
        /// The device's first: have it in the hub, with `twin` if it is new there.
        case create
        /// It stays: have it in the hub, with its credentials of now, and with `twin` if it is new there.
        case keep
        /// It stays, and its twin becomes `twin`.
        case reset
        /// Have it in the hub with what its twin has at the previous hub, if `migrates` and there is one, else with `twin`; then say
        /// `noteCopied`; then delete it at the previous hub, where it may be gone already.
        case move
    }

    package let work: Work
    /// A linked hub's name.
    package let hub: String
    package let deviceID: String
    /// Where it was; nil unless it moves.
    package let previousHub, previousDeviceID: String?
    package let migrates: Bool
    package let isEdge: Bool
    /// `{"tags", "properties": {"desired"}}`; nil: empty.
    package let twin: JSONValue?
    /// What the webhook has for the device.
    package let payload: JSONValue?
    let candidates: String?
    /// Of a move: whether the twin was copied, once it was; the step after that is to delete the device at the previous hub.
    package internal(set) var copied: Bool?

    var json: JSONValue {
        .object(of: [
            "work": .string(work.rawValue), "hub": .string(hub), "deviceId": .string(deviceID),
            "previousHub": previousHub.map { .string($0) }, "previousDeviceId": previousDeviceID.map { .string($0) },
            "migrates": .bool(migrates), "edge": .bool(isEdge), "twin": twin, "payload": payload,
            "candidates": candidates.map { .string($0) }, "copied": copied.map { .bool($0) },
        ])
    }

    init(
        _ work: Work, hub: String, deviceID: String, from previous: RegistrationRecord? = nil, migrates: Bool = false, isEdge: Bool,
        twin: JSONValue?, payload: JSONValue?, candidates: String?
    ) {
        self.work = work
        self.hub = hub
        self.deviceID = deviceID
        previousHub = previous?.hub
        previousDeviceID = previous?.deviceID
        self.migrates = migrates
        self.isEdge = isEdge
        self.twin = twin
        self.payload = payload
        self.candidates = candidates
    }

    init?(json: JSONValue) {
        guard let work = json["work"]?.string.flatMap({ Work(rawValue: $0) }), let hub = json["hub"]?.string,
            let device = json["deviceId"]?.string
        else { return nil }
        self.work = work
        self.hub = hub
        deviceID = device
        previousHub = json["previousHub"]?.string
        previousDeviceID = json["previousDeviceId"]?.string
        migrates = json["migrates"]?.bool ?? false
        isEdge = json["edge"]?.bool ?? false
        twin = json["twin"]
        payload = json["payload"]
        candidates = json["candidates"]?.string
        copied = json["copied"]?.bool
    }
}

/// How the work of a registration has ended.
package enum RegistrationEnd: Sendable {
    /// `migrated`: the twin came along from the previous hub; of moves only, where `noteCopied` has not told it.
    case assigned(migrated: Bool)
    /// `code` has six digits.
    case failed(code: Int, message: String)
}

/// A question for a webhook (dps 10.5).
package struct WebhookCall: Sendable, Equatable {
    package let url: String
    /// What is to be posted. Without secrets.
    package let body: JSONValue

    /// The hubs that it may answer with.
    var candidates: [String] { body["linkedHubs"]?.array?.compactMap(\.string) ?? [] }
    var json: JSONValue { ["url": .string(url), "body": body] }

    init(url: String, body: JSONValue) {
        self.url = url
        self.body = body
    }

    init?(json: JSONValue) {
        guard let url = json["url"]?.string, let body = json["body"] else { return nil }
        self.init(url: url, body: body)
    }
}

/// What a webhook has answered, or that it has not.
package struct WebhookAnswer: Sendable, Equatable {
    let status: Int?
    let body: [UInt8]

    package init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }

    /// It could not be reached, or took too long.
    package static let silence = WebhookAnswer()
    private init() {
        status = nil
        body = []
    }
}
