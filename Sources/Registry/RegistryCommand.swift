import Store
import Wire

/// Every change of the registry is one of these, whether it comes from a tool, by REST or from a file.
package enum RegistryCommand: Sendable {
    case putIdentity(ClientIdentity, IdentityRequest, IfMatch)
    case deleteIdentity(ClientIdentity, IfMatch)
    /// Enables or disables a device.
    case setStatus(device: String, Identity.Status, reason: String?)
    case rotateKey(ClientIdentity, KeySlot, IfMatch)
    /// Entries are independent: those that fail are in the report, the others stand.
    case bulk([BulkEntry])
    case createPolicy(name: String, Rights)
    case setRights(policy: String, Rights)
    /// The last policy that may write the registry goes only by force.
    case deletePolicy(name: String, force: Bool)
    case rotatePolicy(name: String, KeySlot)
    /// What an MQTT session has subscribed to; nil ends the session.
    case setSession(ClientIdentity, MQTTSession?)
    case setHubFacts(HubFacts)
    /// What a device's streams may take, in the place of what was said before; a quota that says nothing is forgotten.
    case putQuota(device: String, Quota)
    /// What a service wants of a twin.
    case changeTwin(ClientIdentity, TwinChange, IfMatch)
    /// A device's patch of its reported properties; with the section's version that it goes by, or nil.
    case report(ClientIdentity, JSONObject, ifVersion: Int64?)
    /// A cloud-to-device message.
    case enqueue(CloudMessage, device: String)
    /// What a device has done with a message of its queue.
    case settle(message: UInt64, device: String, MessageSettlement)
    /// Empties a device's queue.
    case purge(device: String)
    /// Removes messages of all devices whose time is over, this many at most.
    case expireMessages(limit: Int)
    /// Somebody has read this feedback.
    case removeFeedback([UInt64])
    /// A device has been given a link to upload a file by.
    case beginUpload(PendingUpload, device: String)
    /// An upload has ended; services hear of the file, if there is one.
    case endUpload(correlationID: String, device: String, FileArrival?)
    /// Forgets uploads of all devices whose time is over.
    case expireUploads
    /// Somebody has read these notifications of files.
    case removeFileNotices([UInt64])
    /// The model that a device announces.
    case setModel(ClientIdentity, String)
    case job(JobCommand)
    case transfer(TransferCommand)
    case configuration(ConfigurationCommand)
    case authority(AuthorityCommand)
}

/// Which of two keys is made anew.
package enum KeySlot: String, Sendable {
    case primary, secondary
    /// No new key: the two change places.
    case swap
}

/// What a command has led to.
package enum RegistryOutcome: Sendable {
    case identity(Identity, isNew: Bool)
    case policy(Policy)
    case bulk(BulkReport)
    case twin(TwinDocument)
    /// The `$version` of the reported properties.
    case reported(version: Int64)
    /// The number that a message got.
    case queued(UInt64)
    /// How many messages were removed.
    case removed(Int)
    /// Whether the message was still there.
    case settled(Bool)
    case job(JobStep)
    case transfer(Transfer)
    case configuration(TwinConfiguration)
    case authority(Authority)
    case done

    package var identity: Identity? { if case .identity(let identity, _) = self { identity } else { nil } }
    package var policy: Policy? { if case .policy(let policy) = self { policy } else { nil } }
    package var twin: TwinDocument? { if case .twin(let twin) = self { twin } else { nil } }
    package var job: JobStep? { if case .job(let step) = self { step } else { nil } }
    package var configuration: TwinConfiguration? { if case .configuration(let configuration) = self { configuration } else { nil } }
    package var authority: Authority? { if case .authority(let authority) = self { authority } else { nil } }
    package var transfer: Transfer? { if case .transfer(let transfer) = self { transfer } else { nil } }
    package var bulk: BulkReport? { if case .bulk(let report) = self { report } else { nil } }
}

extension Registry {
    /// The one place where the registry changes. Every rule is checked before the first write of a command or entry.
    package static func apply(
        _ command: RegistryCommand, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> RegistryOutcome {
        switch command {
        case .putIdentity(let name, let request, let condition):
            return try put(name, request, condition, in: transaction, now: now)
        case .deleteIdentity(let name, let condition):
            try delete(name, condition, in: transaction)
            return .done
        case .setStatus(let device, let status, let reason):
            return try setStatus(device, status, reason, in: transaction, now: now)
        case .rotateKey(let name, let slot, let condition):
            return try rotateKey(name, slot, condition, in: transaction, now: now)
        case .bulk(let entries):
            return .bulk(try bulk(entries, in: transaction, now: now))
        case .createPolicy(let name, let rights):
            return .policy(try createPolicy(name, rights, in: transaction))
        case .setRights(let name, let rights):
            return .policy(try setRights(name, rights, in: transaction))
        case .deletePolicy(let name, let force):
            try deletePolicy(name, force: force, in: transaction)
            return .done
        case .rotatePolicy(let name, let slot):
            return .policy(try rotatePolicy(name, slot, in: transaction))
        case .setSession(let name, let session):
            try setSession(name, session, in: transaction)
            return .done
        case .putQuota(let device, let quota):
            try putQuota(device, quota, in: transaction)
            return .done
        case .changeTwin(let name, let change, let condition):
            try changeTwin(name, change, condition, in: transaction, now: now)
            return .twin(try twinDocument(name, in: transaction))
        case .report(let name, let patch, let expected):
            return .reported(version: try report(name, patch, ifVersion: expected, in: transaction, now: now))
        case .enqueue(let message, let device):
            return .queued(try enqueue(message, to: device, in: transaction, now: now))
        case .settle(let message, let device, let settlement):
            return .settled(try settle(message, of: device, settlement, in: transaction, now: now))
        case .purge(let device): return .removed(try purge(device, in: transaction, now: now))
        case .expireMessages(let limit): return .removed(try expire(in: transaction, now: now, limit: limit))
        case .removeFeedback(let sequences):
            try removeFeedback(sequences, in: transaction)
            return .done
        case .beginUpload(let upload, let device):
            try beginUpload(upload, of: device, in: transaction, now: now)
            return .done
        case .endUpload(let correlationID, let device, let arrival):
            try endUpload(correlationID, of: device, arrival, in: transaction, now: now)
            return .done
        case .expireUploads: return .removed(try expireUploads(in: transaction, now: now))
        case .removeFileNotices(let numbers):
            try removeFileNotices(numbers, in: transaction)
            return .done
        case .setModel(let name, let model):
            try setModel(name, model, in: transaction)
            return .done
        case .job(let command): return .job(try apply(command, in: transaction, now: now))
        case .configuration(let command): return try apply(command, in: transaction, now: now)
        case .authority(let command): return try apply(command, in: transaction, now: now)
        case .transfer(let command): return .transfer(try apply(command, in: transaction, now: now))
        case .setHubFacts(let facts):
            try stored { () throws(StoreError) in try transaction.put(.facts, HubFacts.key, facts.json.bytes()) }
            return .done
        }
    }

    /// Turns an error of the store into one of the registry.
    static func stored<Result>(_ body: () throws(StoreError) -> Result) throws(RegistryError) -> Result {
        do { return try body() } catch { throw .store(error) }
    }
}
