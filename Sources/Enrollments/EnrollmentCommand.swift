import Store
import TLS
import Wire

/// Every change of the provisioning service's store is one of these, whether it comes from a tool, by REST or from a device.
package enum EnrollmentCommand: Sendable {
    /// Creates or replaces; the document as in a request.
    case put(EnrollmentName, JSONValue, IfMatch)
    case delete(EnrollmentName, IfMatch)
    /// Entries are independent: those that fail are in the report, the others stand.
    case bulk(EnrollmentKind, BulkMode, [JSONValue])
    case deleteRecord(registrationID: String, IfMatch)
    /// Links a hub, or changes what is said of one.
    case putHub(JSONValue)
    case deleteHub(name: String)
    case putCertificate(name: String, Certificate, isVerified: Bool, IfMatch)
    case makeVerificationCode(certificate: String, IfMatch)
    /// The certificate that was signed with the CA's key.
    case verifyCertificate(name: String, by: Certificate, IfMatch)
    case deleteCertificate(name: String, IfMatch)
    /// `{"rights": …}`, with keys or without; what is missing stays.
    case putPolicy(name: String, JSONValue)
    case deletePolicy(name: String)
    case setAllocation(AllocationPolicy)
    /// A device that has proved itself wants to register.
    case begin(Admission, payload: JSONValue?, apiVersion: String)
    /// What the webhook of an operation has answered.
    case answer(operation: String, WebhookAnswer)
    /// The new hub has the device, so that it may go from the old one.
    case noteCopied(operation: String, migrated: Bool)
    case finish(operation: String, RegistrationEnd)
    /// Forgets operations that ended before that time.
    case sweep(before: Timestamp)
}

/// What a bulk request does with each entry (dps 14.2).
package enum BulkMode: String, Sendable, CaseIterable { case create, update, updateIfMatchETag, delete }

/// What a command has led to.
package enum EnrollmentOutcome: Sendable {
    case enrollment(Enrollment)
    /// The answer of a bulk request.
    case bulk(JSONValue)
    case hub(LinkedHub)
    case certificate(ServiceCertificate)
    case policy(ServicePolicy)
    case operation(RegistrationOperation)
    case done

    package var enrollment: Enrollment? { if case .enrollment(let enrollment) = self { enrollment } else { nil } }
    package var operation: RegistrationOperation? { if case .operation(let operation) = self { operation } else { nil } }
    /// The document of what was written; secrets only where the service API shows them.
    package var json: JSONValue? {
        switch self {
        case .enrollment(let enrollment): enrollment.json(.keys)
        case .bulk(let report): report
        case .hub(let hub): hub.json()
        case .certificate(let certificate): certificate.json(showsCode: true)
        case .policy(let policy): policy.json
        case .operation, .done: nil
        }
    }
}

extension Enrollments {
    /// The one place where the store changes. Every rule is checked before the first write of a command or entry.
    package static func apply(
        _ command: EnrollmentCommand, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> EnrollmentOutcome {
        switch command {
        case .put(let name, let document, let condition):
            return .enrollment(try put(name, document, condition, in: transaction, now: now))
        case .delete(let name, let condition): try delete(name, condition, in: transaction)
        case .bulk(let kind, let mode, let entries): return .bulk(try bulk(kind, mode, entries, in: transaction, now: now))
        case .deleteRecord(let id, let condition): try deleteRecord(id, condition, in: transaction)
        case .putHub(let document): return .hub(try putHub(document, in: transaction))
        case .deleteHub(let name): try remove(.hubs, name.lowercased(), "linked hub", in: transaction)
        case .putCertificate(let name, let certificate, let isVerified, let condition):
            return .certificate(try put(name, certificate, isVerified, condition, in: transaction, now: now))
        case .makeVerificationCode(let name, let condition):
            return .certificate(try makeCode(name, condition, in: transaction, now: now))
        case .verifyCertificate(let name, let proof, let condition):
            return .certificate(try verify(name, proof, condition, in: transaction, now: now))
        case .deleteCertificate(let name, let condition): try deleteCertificate(name, condition, in: transaction)
        case .putPolicy(let name, let document):
            return .policy(try put(name, document, in: transaction))
        case .deletePolicy(let name): try deletePolicy(name, in: transaction)
        case .setAllocation(let policy):
            guard policy != .custom else { throw .invalid("custom is for enrollments, not for the whole service") }
            var settings = try settings(in: transaction)
            settings.allocation = policy
            try save(settings, in: transaction)
        case .begin(let admission, let payload, let version):
            return .operation(try begin(admission, payload, version, in: transaction, now: now))
        case .answer(let id, let answer): return .operation(try take(answer, for: id, in: transaction, now: now))
        case .noteCopied(let id, let migrated): return .operation(try noteCopied(id, migrated, in: transaction))
        case .finish(let id, let end): return .operation(try finish(id, end, in: transaction, now: now))
        case .sweep(let time): try sweep(before: time, in: transaction)
        }
        return .done
    }
}
