import Wire

/// What a command has done or tried, as an audit log names it (iotstream-audit(5)). Holds no key and no content.
package struct EnrollmentDeed: Equatable, Sendable {
    /// A word with dashes: `enrollment-written`.
    package let action: String
    /// `enrollment:ID`, `enrollment-group:ID`, `hub:NAME` and the like.
    package let subject: String
    /// Why it was not done.
    package var failure: EnrollmentError?

    fileprivate init(_ what: String, _ done: String, _ name: String) {
        action = "\(what)-\(done)"
        subject = "\(what):\(name)"
    }
}

extension EnrollmentKind {
    fileprivate var auditName: String { self == .individual ? "enrollment" : "enrollment-group" }
}

extension EnrollmentCommand {
    /// What is to be said of the command in an audit log; nothing of the service's work for devices, which it tells itself.
    package func deeds(_ result: Result<EnrollmentOutcome, EnrollmentError>) -> [EnrollmentDeed] {
        var failure: EnrollmentError?
        if case .failure(let error) = result { failure = error }
        if case .bulk(let kind, let mode, let entries) = self {
            let errors = (try? result.get().json)?["errors"]?.array ?? []
            return entries.map { entry in
                let id = entry[kind.idMember]
                var deed = EnrollmentDeed(kind.auditName, mode == .delete ? "deleted" : "written", id?.string ?? "")
                deed.failure = failure
                if let error = errors.first(where: { $0[kind.idMember] == id ?? .null }) {
                    deed.failure = .refused(code: Int(clamping: error["errorCode"]?.integer ?? 0), error["errorStatus"]?.string ?? "")
                }
                return deed
            }
        }
        guard var deed else { return [] }
        deed.failure = failure
        return [deed]
    }

    private var deed: EnrollmentDeed? {
        switch self {
        case .put(let name, _, _): EnrollmentDeed(name.kind.auditName, "written", name.id)
        case .delete(let name, _): EnrollmentDeed(name.kind.auditName, "deleted", name.id)
        case .deleteRecord(let id, _): EnrollmentDeed("registration", "deleted", id)
        case .putHub(let document): EnrollmentDeed("hub", "linked", document["name"]?.string ?? "")
        case .deleteHub(let name): EnrollmentDeed("hub", "unlinked", name)
        case .putCertificate(let name, _, _, _): EnrollmentDeed("authority", "written", name)
        case .makeVerificationCode(let name, _): EnrollmentDeed("authority", "code-made", name)
        case .verifyCertificate(let name, _, _): EnrollmentDeed("authority", "verified", name)
        case .deleteCertificate(let name, _): EnrollmentDeed("authority", "deleted", name)
        case .putPolicy(let name, _): EnrollmentDeed("policy", "written", name)
        case .deletePolicy(let name): EnrollmentDeed("policy", "deleted", name)
        case .setAllocation(let policy): EnrollmentDeed("allocation", "set", policy.rawValue)
        case .bulk, .begin, .answer, .noteCopied, .finish, .sweep: nil
        }
    }
}
