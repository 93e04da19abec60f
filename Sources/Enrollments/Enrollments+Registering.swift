import Bytes
import Store
import Wire

/// The way of a registration (dps 10): `begin`, perhaps `answer` of a webhook, the work at the hubs, `finish`.
extension Enrollments {
    /// The operation of that id, if it is one of the registration id; nil otherwise.
    package func operation(_ id: String, of registrationID: String) throws(EnrollmentError) -> RegistrationOperation? {
        let found = try read { transaction throws(EnrollmentError) in
            try Self.find(.operations, id, in: transaction) { RegistrationOperation(record: $0) }
        }
        return found.flatMap { $0.key == registrationID.lowercased() ? $0 : nil }
    }

    /// Those that have not ended: after a start they are taken up again.
    package func runningOperations() throws(EnrollmentError) -> [RegistrationOperation] {
        try read { transaction throws(EnrollmentError) in
            let ids = try Self.all(.running, in: transaction) { _, id in id.toString() }
            var found: [RegistrationOperation] = []
            for id in ids {
                if let operation = try Self.find(.operations, id, in: transaction, { RegistrationOperation(record: $0) }) {
                    found.append(operation)
                }
            }
            return found
        }
    }

    /// Of several requests of one device at once, all get the same operation.
    static func begin(
        _ admission: Admission, _ payload: JSONValue?, _ apiVersion: String, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> RegistrationOperation {
        let key = admission.registrationID.lowercased()
        if let id = try stored({ () throws(StoreError) in try transaction.lend(.running, key) { $0.toString() ?? "" } }),
            let running = try find(.operations, id, in: transaction, { RegistrationOperation(record: $0) })
        {
            return running
        }
        let random = Hex.encode([UInt8].random(count: 24))
        var operation = RegistrationOperation(
            id: "4.\(random.prefix(16)).\(random.dropFirst(16).prefix(8))-\(random.dropFirst(24).prefix(4))-\(random.suffix(20))",
            admission, payload: payload, isSticky: apiVersion.prefix(10) <= "2018-04-01", now: now)
        try stored { () throws(StoreError) in try transaction.put(.running, key, Array(operation.id.utf8)) }
        try decide(&operation, nil, in: transaction, now: now)
        return operation
    }

    static func take(
        _ answer: WebhookAnswer, for id: String, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> RegistrationOperation {
        var operation = try require(operation: id, in: transaction)
        guard !operation.hasEnded, let call = operation.webhook else { return operation }
        let verdict = WebhookVerdict(answer, candidates: call.candidates)
        operation.webhook = nil
        try decide(&operation, verdict, in: transaction, now: now)
        return operation
    }

    static func noteCopied(
        _ id: String, _ migrated: Bool, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) -> RegistrationOperation {
        var operation = try require(operation: id, in: transaction)
        guard !operation.hasEnded, operation.plan?.copied == nil else { return operation }
        operation.plan?.copied = migrated
        try save(.operations, id, operation.record, in: transaction)
        return operation
    }

    /// Writes the registration record and the operation's end in one; a second end changes nothing.
    static func finish(
        _ id: String, _ end: RegistrationEnd, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> RegistrationOperation {
        var operation = try require(operation: id, in: transaction)
        guard !operation.hasEnded else { return operation }
        switch (end, operation.plan) {
        case (.assigned(let migrated), let plan?):
            let record = try assign(operation, plan, migrated: plan.copied ?? migrated, in: transaction, now: now)
            let hub = try find(.hubs, record.hub.lowercased(), in: transaction) { LinkedHub(record: $0) }
            try close(&operation, record.told(at: hub), in: transaction, now: now)
        case (.assigned, nil): throw .invalid("the operation has no plan yet")
        case (.failed(let code, let message), let plan):
            if let plan { try countOut(plan, of: operation, in: transaction) }
            try close(&operation, try failure(operation, code, message, in: transaction, now: now), in: transaction, now: now)
        }
        return operation
    }

    static func sweep(before time: Timestamp, in transaction: borrowing WriteTransaction) throws(EnrollmentError) {
        let limit = ending(time), limitBytes = Array(limit.utf8)
        var old: [String] = []
        try stored { () throws(StoreError) in
            try transaction.scan(.endings) { key, _ in
                guard key.toArray().lexicographicallyPrecedes(limitBytes), let key = key.toString() else { return false }
                old.append(key)
                return old.count < 10_000
            }
            for key in old {
                try transaction.delete(.endings, key)
                try transaction.delete(.operations, key.dropFirst(limit.utf8.count + 1))
            }
        }
    }

    /// A time as keys begin with it.
    private static func ending(_ time: Timestamp) -> String {
        Hex.encode(withUnsafeBytes(of: UInt64(clamping: time.milliseconds).bigEndian) { Array($0) })
    }

    /// Forgets where a device was assigned.
    static func deleteRecord(
        _ registrationID: String, _ condition: IfMatch, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        guard let record = try record(registrationID, in: transaction) else { throw .notFound("no registration of \(registrationID)") }
        if case .etag(let etag) = condition, etag != record.writtenETag { try condition.check(record.etag) }
        try count(record.candidates, record.hub, -1, in: transaction)
        try stored { () throws(StoreError) in
            if let group = record.group { try transaction.delete(.members, "\(group.lowercased())\0\(record.key)") }
            try transaction.delete(.registrations, record.key)
        }
    }

    // MARK: - Decisions

    /// Gives the operation a plan or a webhook to ask, or ends it; then it is stored.
    private static func decide(
        _ operation: inout RegistrationOperation, _ verdict: WebhookVerdict?, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) {
        let decision = try plan(operation, verdict, in: transaction)
        switch decision {
        case .ask(let call): operation.webhook = call
        case .work(let plan):
            operation.plan = plan
            try countIn(plan, of: operation, in: transaction)
        case .fail(let code, let message):
            let state = try failure(operation, code, message, in: transaction, now: now)
            return try close(&operation, state, in: transaction, now: now)
        }
        try save(.operations, operation.id, operation.record, in: transaction)
    }

    private enum Decision {
        case ask(WebhookCall)
        case work(AssignmentPlan)
        case fail(Int, String)
    }

    private static func plan(
        _ operation: RegistrationOperation, _ verdict: WebhookVerdict?, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) -> Decision {
        guard let enrollment = try find(operation.enrollment, in: transaction), enrollment.isEnabled else {
            return .fail(401002, "The enrollment is gone or disabled")
        }
        let record = try record(operation.registrationID, in: transaction), linked = try hubs(in: transaction)
        let policy = enrollment.reprovision ?? ReprovisionPolicy()
        if let record, !policy.updatesHub || (operation.isSticky && enrollment.reprovision == nil) {
            guard linked.contains(where: { ASCII.equalIgnoringCase($0.name, record.hub) }) else {
                return .fail(404210, "The hub \(record.hub) is no longer linked")
            }
            return .work(
                AssignmentPlan(
                    .keep, hub: record.hub, deviceID: record.deviceID, isEdge: enrollment.isEdge, twin: enrollment.initialTwin,
                    payload: record.payload, candidates: record.candidates))
        }
        let choice: (hub: LinkedHub, candidates: String?)
        switch try choose(operation, enrollment, record, linked, verdict, in: transaction) {
        case .ask(let call): return .ask(call)
        case .fail(let code, let message): return .fail(code, message)
        case .hub(let hub, let candidates): choice = (hub, candidates)
        }
        let id = record?.registrationID ?? (enrollment.name.kind == .individual ? enrollment.name.id : operation.registrationID)
        let deviceID = enrollment.deviceID ?? id
        let stays = record.map { ASCII.equalIgnoringCase($0.hub, choice.hub.name) && $0.deviceID == deviceID } ?? false
        let work: AssignmentPlan.Work =
            record == nil ? .create : !stays ? .move : policy.migratesData ? .keep : .reset
        return .work(
            AssignmentPlan(
                work, hub: choice.hub.name, deviceID: deviceID, from: work == .move ? record : nil,
                migrates: work == .move && policy.migratesData && verdict?.twin == nil, isEdge: enrollment.isEdge,
                twin: verdict?.twin ?? enrollment.initialTwin, payload: verdict?.payload, candidates: choice.candidates))
    }

    private enum Choice {
        case hub(LinkedHub, candidates: String?)
        case ask(WebhookCall)
        case fail(Int, String)
    }

    private static func choose(
        _ operation: RegistrationOperation, _ enrollment: Enrollment, _ record: RegistrationRecord?, _ linked: [LinkedHub],
        _ verdict: WebhookVerdict?, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) -> Choice {
        let settings = try settings(in: transaction), policy = enrollment.allocation ?? settings.allocation
        let candidates = HubCandidates(linked, names: enrollment.hubs, policy: policy)
        if case .refused(let message)? = verdict?.outcome { return .fail(400207, message) }
        guard !candidates.hubs.isEmpty else { return .fail(404210, "There is no linked hub that this device may be assigned to") }
        switch policy {
        case .static:
            guard candidates.hubs.count == 1 else { return .fail(400206, "Static allocation needs one hub, and the enrollment names none") }
            return .hub(candidates.hubs[0], candidates: nil)
        case .custom:
            if case .hub(let name)? = verdict?.outcome, let hub = candidates.hubs.first(where: { ASCII.equalIgnoringCase($0.name, name) }) {
                return .hub(hub, candidates: nil)
            }
            guard verdict == nil, let webhook = enrollment.webhook else { return .fail(400207, "Custom allocation named no linked hub") }
            return .ask(WebhookCall(url: webhook.url, body: question(operation, enrollment, record, candidates.hubs)))
        case .hashed, .geoLatency:
            let candidates = policy == .geoLatency ? candidates.nearest : candidates, signature = candidates.signature
            // What was spread over the same hubs before stays.
            if let record, record.candidates == signature,
                let hub = candidates.hubs.first(where: { ASCII.equalIgnoringCase($0.name, record.hub) })
            {
                return .hub(hub, candidates: signature)
            }
            var counts: [String: Int] = [:]
            for hub in candidates.hubs { counts[hub.key] = try count(signature, hub.name, in: transaction) }
            guard let hub = candidates.chosen(for: operation.registrationID, counts: counts) else {
                return .fail(404210, "There is no hub")
            }
            return .hub(hub, candidates: signature)
        }
    }

    /// What a webhook is asked (dps 10.5).
    private static func question(
        _ operation: RegistrationOperation, _ enrollment: Enrollment, _ record: RegistrationRecord?, _ hubs: [LinkedHub]
    ) -> JSONValue {
        var document = enrollment.json()
        document["attestation"] = ["type": .string(enrollment.attestation.type)]
        var context = JSONValue.object(of: [
            "registrationId": .string(operation.registrationID), "currentIotHubHostName": record.map { .string($0.hub) },
            "currentDeviceId": record.map { .string($0.deviceID) }, "payload": operation.payload,
        ])
        context[operation.attestationType] = operation.attestationType == "x509" ? operation.attestation : [:]
        return [
            enrollment.name.kind == .individual ? "individualEnrollment" : "enrollmentGroup": document, "deviceRuntimeContext": context,
            "linkedHubs": .array(hubs.map { .string($0.name) }),
        ]
    }

    // MARK: - Ends

    private static func assign(
        _ operation: RegistrationOperation, _ plan: AssignmentPlan, migrated: Bool, in transaction: borrowing WriteTransaction,
        now: Timestamp
    ) throws(EnrollmentError) -> RegistrationRecord {
        let old = try record(operation.registrationID, in: transaction)
        let substatus =
            switch plan.work {
            case .create: "initialAssignment"
            case .keep: old?.substatus ?? "initialAssignment"
            case .reset: "deviceDataReset"
            case .move: migrated ? "deviceDataMigrated" : "deviceDataReset"
            }
        let made = RegistrationRecord(
            registrationID: old?.registrationID ?? operation.registrationID, created: old?.created ?? now, updated: now, hub: plan.hub,
            deviceID: plan.deviceID, substatus: substatus, attestationType: operation.attestationType, attestation: operation.attestation,
            payload: plan.payload, candidates: plan.candidates, etag: try freshGuid(in: transaction, now: now))
        if let old, !isSpread(old, as: plan) { try count(old.candidates, old.hub, -1, in: transaction) }
        try stored { () throws(StoreError) in
            if let group = old?.group { try transaction.delete(.members, "\(group.lowercased())\0\(made.key)") }
            if let group = made.group { try transaction.put(.members, "\(group.lowercased())\0\(made.key)", []) }
            try transaction.put(.registrations, made.key, made.record())
        }
        return made
    }

    private static func failure(
        _ operation: RegistrationOperation, _ code: Int, _ message: String, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> JSONValue {
        var state: JSONValue = [
            "registrationId": .string(operation.registrationID), "createdDateTimeUtc": .string(operation.begun.description),
            "lastUpdatedDateTimeUtc": .string(now.description), "status": "failed", "errorCode": .integer(Int64(code)),
            "errorMessage": .string(message),
        ]
        state["etag"] = .string(Base64.encode("\"\(try freshGuid(in: transaction, now: now))\"".utf8))
        return state
    }

    private static func close(
        _ operation: inout RegistrationOperation, _ state: JSONValue, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) {
        operation.end(state, now: now)
        try save(.operations, operation.id, operation.record, in: transaction)
        let key = "\(ending(now))\0\(operation.id)"
        try stored { () throws(StoreError) in try transaction.put(.endings, key, []) }
        try remove(.running, operation.key, "operation", in: transaction)
    }

    private static func require(
        operation id: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(EnrollmentError) -> RegistrationOperation {
        guard let operation = try find(.operations, id, in: transaction, { RegistrationOperation(record: $0) }) else {
            throw .refused(code: 404202, "no operation \(id)")
        }
        return operation
    }

    // MARK: - How many devices hubs have of those spread over them

    private static func isSpread(_ record: RegistrationRecord, as plan: AssignmentPlan) -> Bool {
        record.candidates == plan.candidates && ASCII.equalIgnoringCase(record.hub, plan.hub)
    }

    /// Counted when the plan is made, so that those who come at the same time see it.
    private static func countIn(
        _ plan: AssignmentPlan, of operation: RegistrationOperation, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        if let old = try record(operation.registrationID, in: transaction), isSpread(old, as: plan) { return }
        try count(plan.candidates, plan.hub, 1, in: transaction)
    }

    private static func countOut(
        _ plan: AssignmentPlan, of operation: RegistrationOperation, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        if let old = try record(operation.registrationID, in: transaction), isSpread(old, as: plan) { return }
        try count(plan.candidates, plan.hub, -1, in: transaction)
    }

    private static func count(
        _ candidates: String, _ hub: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(EnrollmentError) -> Int {
        try stored { () throws(StoreError) in
            try transaction.lend(.spreads, "\(candidates)\0\(hub.lowercased())") { $0.toString().flatMap { Int($0) } ?? 0 } ?? 0
        }
    }

    private static func count(
        _ candidates: String?, _ hub: String, _ change: Int, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        guard let candidates else { return }
        let sum = max(0, try count(candidates, hub, in: transaction) &+ change)
        try stored { () throws(StoreError) in
            try transaction.put(.spreads, "\(candidates)\0\(hub.lowercased())", Array(String(sum).utf8))
        }
    }
}
