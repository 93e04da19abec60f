import Wire

/// What a command has done or tried, as an audit log names it (iotstream-audit(5)). Holds no key and no content.
package struct Deed: Equatable, Sendable {
    /// A word with dashes: `device-created`.
    package var action: String
    /// `device:ID`, `policy:NAME` and the like.
    package var subject: String
    package var detail = JSONObject()
    /// Why it was not done.
    package var failure: RegistryError?

    package init(_ action: String, _ subject: String, _ detail: KeyValuePairs<String, JSONValue?> = [:]) {
        self.action = action
        self.subject = subject
        for (key, value) in detail { self.detail[key] = value }
    }
}

extension ClientIdentity {
    /// `device:ID` or `module:DEVICE/MODULE`: how an audit log names it.
    package var auditName: String { "\(kind):\(clientID)" }
    fileprivate var kind: String { moduleID == nil ? "device" : "module" }
}

extension RegistryCommand {
    /// What is to be said of the command in an audit log; nothing of what devices report and of the hub's own bookkeeping.
    package func deeds(_ result: Result<RegistryOutcome, RegistryError>) -> [Deed] {
        var outcome: RegistryOutcome?, failure: RegistryError?
        switch result {
        case .success(let done): outcome = done
        case .failure(let error): failure = error
        }
        if case .bulk(let entries) = self {
            let failures = outcome?.bulk?.failures ?? []
            return entries.enumerated().map { index, entry in
                var deed = entry.deed
                deed.failure = failure ?? failures.first { $0.index == index }?.error
                return deed
            }
        }
        guard var deed = deed(outcome) else { return [] }
        deed.failure = failure
        return [deed]
    }

    private func deed(_ outcome: RegistryOutcome?) -> Deed? {
        switch self {
        case .putIdentity(let name, let request, let condition):
            var isNew = condition == .absent
            if case .identity(_, let new)? = outcome { isNew = new }
            return Deed("\(name.kind)-\(isNew ? "created" : "updated")", name.auditName, request.told)
        case .deleteIdentity(let name, _): return Deed("\(name.kind)-deleted", name.auditName)
        case .setStatus(let device, let status, let reason):
            return Deed("device-\(status.rawValue)", "device:\(device)", ["reason": reason.map { .string($0) }])
        case .rotateKey(let name, let slot, _):
            return Deed("\(name.kind)-key-rotated", name.auditName, ["slot": .string(slot.rawValue)])
        case .createPolicy(let name, let rights):
            return Deed("policy-created", "policy:\(name)", ["rights": .string(rights.description)])
        case .setRights(let name, let rights): return Deed("policy-changed", "policy:\(name)", ["rights": .string(rights.description)])
        case .deletePolicy(let name, let force): return Deed("policy-deleted", "policy:\(name)", ["force": force ? true : nil])
        case .rotatePolicy(let name, let slot): return Deed("policy-rotated", "policy:\(name)", ["slot": .string(slot.rawValue)])
        case .putQuota(let device, _): return Deed("quota-changed", "device:\(device)")
        case .changeTwin(let name, let change, _):
            return Deed(
                "twin-changed", name.auditName, ["tags": change.tags == nil ? nil : true, "desired": change.desired == nil ? nil : true])
        case .purge(let device):
            var count: Int64?
            if case .removed(let number)? = outcome { count = Int64(number) }
            return Deed("messages-purged", "device:\(device)", ["messages": count.map { .integer($0) }])
        case .job(let command): return command.deed
        case .transfer(let command): return command.deed
        case .configuration(let command): return command.deed
        case .authority(let command): return command.deed
        case .bulk, .setSession, .setHubFacts, .report, .enqueue, .settle, .expireMessages, .removeFeedback, .beginUpload, .endUpload,
            .expireUploads,
            .removeFileNotices, .setModel:
            return nil
        }
    }
}

extension IdentityRequest {
    fileprivate var told: KeyValuePairs<String, JSONValue?> {
        [
            "status": .string(status.rawValue), "authentication": authentication?.kind.map { .string($0.rawValue) },
            "edge": isEdge ? true : nil,
        ]
    }
}

extension BulkEntry {
    fileprivate var deed: Deed {
        let mode: (String, JSONValue?) = ("mode", .string(mode.rawValue))
        return switch self.mode {
        case .delete, .deleteIfMatchETag: Deed("\(name.kind)-deleted", name.auditName, [mode.0: mode.1])
        case .updateTwin, .updateTwinIfMatchETag: Deed("twin-changed", name.auditName, [mode.0: mode.1])
        case .create: Deed("\(name.kind)-created", name.auditName, [mode.0: mode.1])
        default: Deed("\(name.kind)-updated", name.auditName, [mode.0: mode.1, "status": .string(request.status.rawValue)])
        }
    }
}

extension AuthorityCommand {
    fileprivate var deed: Deed {
        switch self {
        case .put(let name, let certificate, let isVerified, let condition):
            Deed(
                "authority-\(condition == .absent ? "created" : "updated")", "authority:\(name)",
                ["certificate": .string(certificate.subject), "verified": isVerified.map { .bool($0) }])
        case .makeCode(let name, _): Deed("authority-code-made", "authority:\(name)")
        case .verify(let name, _, _): Deed("authority-verified", "authority:\(name)")
        case .delete(let name, _): Deed("authority-deleted", "authority:\(name)")
        }
    }
}

extension JobCommand {
    fileprivate var deed: Deed? {
        switch self {
        case .create(let job): Deed("job-created", "job:\(job.id)", ["type": .string(job.kind.rawValue)])
        case .cancel(let id): Deed("job-cancelled", "job:\(id)")
        case .end(let id, let status, _): Deed("job-ended", "job:\(id)", ["status": .string(status.rawValue)])
        case .queue, .begin, .list, .updateTwins, .claim, .settle, .sweep, .forget: nil
        }
    }
}

extension TransferCommand {
    fileprivate var deed: Deed? {
        switch self {
        case .create(let transfer): Deed("transfer-created", "job:\(transfer.id)", ["type": .string(transfer.kind.rawValue)])
        case .cancel(let id): Deed("transfer-cancelled", "job:\(id)")
        case .advance(let id, let status, _, _) where status.isOver:
            Deed("transfer-ended", "job:\(id)", ["status": .string(status.rawValue)])
        case .advance, .forget: nil
        }
    }
}

extension ConfigurationCommand {
    fileprivate var deed: Deed? {
        switch self {
        case .put(let configuration, let condition):
            Deed("configuration-\(condition == .absent ? "created" : "updated")", "configuration:\(configuration.id)")
        case .delete(let id, _): Deed("configuration-deleted", "configuration:\(id)")
        case .apply(_, let device): Deed("configuration-applied", "device:\(device)")
        case .configure, .measured, .bury: nil
        }
    }
}

extension ImportReport {
    /// All lines of the file together.
    package var deed: Deed {
        Deed("devices-imported", "", ["imported": .integer(Int64(succeeded)), "failed": .integer(Int64(failures.count))])
    }
}
