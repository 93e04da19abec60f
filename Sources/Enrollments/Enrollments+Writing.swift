import Bytes
import Store
import TLS
import Wire

extension Enrollments {
    /// PUT of an enrollment (dps 14.2): without a condition it creates or replaces.
    static func put(
        _ name: EnrollmentName, _ document: JSONValue, _ condition: IfMatch, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> Enrollment {
        let existing = try find(name, in: transaction)
        if case .etag = condition {
            guard let existing else { throw .preconditionFailed }
            try condition.check(existing.etag)
        }
        let enrollment = try Enrollment(
            json: document, name: name, existing: existing, etag: try freshGuid(in: transaction, now: now), now: now)
        if case .x509(let certificates) = enrollment.attestation {
            for reference in certificates.references where try certificate(reference, in: transaction) == nil {
                throw .invalid("there is no certificate \(reference)")
            }
        }
        try save(name.kind.table, name.key, enrollment.json(.stored), in: transaction)
        return enrollment
    }

    static func delete(
        _ name: EnrollmentName, _ condition: IfMatch, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        try condition.check(try require(name, in: transaction).etag)
        try remove(name.kind.table, name.key, name.kind.word, in: transaction)
    }

    static let mostBulkEntries = 10

    /// Bulk operations (dps 14.2); trouble of the store ends the whole command.
    static func bulk(
        _ kind: EnrollmentKind, _ mode: BulkMode, _ entries: [JSONValue], in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> JSONValue {
        guard (1...mostBulkEntries).contains(entries.count) else { throw .invalid("1 to \(mostBulkEntries) entries are taken at once") }
        var errors: [JSONValue] = []
        for entry in entries {
            do throws(EnrollmentError) {
                try apply(entry, kind, mode, in: transaction, now: now)
            } catch {
                if case .store = error { throw error }
                errors.append([
                    kind.idMember: entry[kind.idMember] ?? .null, "errorCode": .integer(Int64(error.code)),
                    "errorStatus": .string(error.message),
                ])
            }
        }
        return ["isSuccessful": .bool(errors.isEmpty), "errors": .array(errors)]
    }

    private static func apply(
        _ entry: JSONValue, _ kind: EnrollmentKind, _ mode: BulkMode, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) {
        guard let id = try entry.text(kind.idMember) else { throw .invalid("an entry has no \(kind.idMember)") }
        let name = try EnrollmentName(kind, id)
        if mode == .delete { return try delete(name, .any, in: transaction) }
        let exists = try find(name, in: transaction) != nil
        if mode == .create, exists { throw .conflict("\(kind.word) \(id) already exists") }
        if mode != .create, !exists { throw .notFound("no \(kind.word) \(id)") }
        let condition = IfMatch(header: mode == .updateIfMatchETag ? try entry.text("etag") ?? "" : nil)
        if mode == .updateIfMatchETag, condition == .absent { throw .invalid("this mode needs an etag") }
        _ = try put(name, entry, condition, in: transaction, now: now)
    }

    // MARK: - Hubs, certificates, policies

    static func putHub(_ document: JSONValue, in transaction: borrowing WriteTransaction) throws(EnrollmentError) -> LinkedHub {
        let existing = try document.text("name").flatMap { name throws(EnrollmentError) in
            try find(.hubs, name.lowercased(), in: transaction) { LinkedHub(record: $0) }
        }
        let hub = try LinkedHub(json: document, existing: existing)
        try save(.hubs, hub.key, hub.json(secrets: true), in: transaction)
        return hub
    }

    static func put(
        _ name: String, _ body: Certificate, _ isVerified: Bool, _ condition: IfMatch, in transaction: borrowing WriteTransaction,
        now: Timestamp
    ) throws(EnrollmentError) -> ServiceCertificate {
        guard Identifier.isValidPolicyName(name) else { throw .invalid("a certificate's name has 1 to 64 letters, digits and - . _") }
        guard body.isCA else { throw .invalid("the certificate is not a CA's") }
        let existing = try certificate(name, in: transaction)
        if let existing { try condition.check(existing.etag) } else if case .etag = condition { throw .preconditionFailed }
        let stays = existing.map { $0.isVerified && $0.certificate.isSame(as: body) } ?? false
        let made = ServiceCertificate(
            name: existing?.name ?? name, certificate: body, isVerified: isVerified || stays,
            etag: try freshGuid(in: transaction, now: now), created: existing?.created ?? now, updated: now)
        try save(made, in: transaction)
        return made
    }

    private static func change(
        _ name: String, _ condition: IfMatch, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> ServiceCertificate {
        guard var found = try certificate(name, in: transaction) else { throw .notFound("no certificate \(name)") }
        try condition.check(found.etag)
        found.etag = try freshGuid(in: transaction, now: now)
        found.updated = now
        return found
    }

    static func makeCode(
        _ name: String, _ condition: IfMatch, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> ServiceCertificate {
        var found = try change(name, condition, in: transaction, now: now)
        found.code = Hex.encode([UInt8].random(count: 24), uppercase: true)
        try save(found, in: transaction)
        return found
    }

    /// Proof of possession: a certificate with the code as its common name, signed by the CA.
    static func verify(
        _ name: String, _ proof: Certificate, _ condition: IfMatch, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(EnrollmentError) -> ServiceCertificate {
        var found = try change(name, condition, in: transaction, now: now)
        guard let code = found.code else { throw .invalid("there is no verification code: have one made first") }
        guard proof.commonName == code else { throw .invalid("the certificate's common name is not the verification code") }
        guard proof.isIssued(by: found.certificate) else { throw .invalid("the certificate was not signed by this CA") }
        found.isVerified = true
        found.code = nil
        try save(found, in: transaction)
        return found
    }

    static func deleteCertificate(
        _ name: String, _ condition: IfMatch, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        guard let found = try certificate(name, in: transaction) else { throw .notFound("no certificate \(name)") }
        try condition.check(found.etag)
        for kind in EnrollmentKind.allCases {
            let users = try all(kind.table, in: transaction) { _, bytes in Enrollment(record: bytes, kind) }
            for user in users {
                guard case .x509(let certificates) = user.attestation,
                    certificates.references.contains(where: { ASCII.equalIgnoringCase($0, name) })
                else { continue }
                throw .conflict("\(kind.word) \(user.name.id) refers to certificate \(name)")
            }
        }
        try remove(.certificates, name.lowercased(), "certificate", in: transaction)
    }

    static func put(
        _ name: String, _ document: JSONValue, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) -> ServicePolicy {
        let existing = try find(.policies, name, in: transaction) { ServicePolicy(record: $0) }
        let policy = try ServicePolicy(json: document, name: name, existing: existing)
        if existing != nil, !policy.rights.contains(.serviceConfig) { try checkNotLast(name, in: transaction) }
        try save(policy, in: transaction)
        return policy
    }

    /// Without a policy that may configure the service, nobody could administer it over the network any more.
    private static func checkNotLast(_ name: String, in transaction: borrowing WriteTransaction) throws(EnrollmentError) {
        let others = try all(.policies, in: transaction) { _, bytes in ServicePolicy(record: bytes) }.filter { $0.name != name }
        guard others.contains(where: { $0.rights.contains(.serviceConfig) }) else {
            throw .conflict("\(name) is the last policy with ServiceConfig")
        }
    }

    static func deletePolicy(_ name: String, in transaction: borrowing WriteTransaction) throws(EnrollmentError) {
        try checkNotLast(name, in: transaction)
        try remove(.policies, name, "policy", in: transaction)
    }

    // MARK: - Parts

    static func save(_ policy: ServicePolicy, in transaction: borrowing WriteTransaction) throws(EnrollmentError) {
        try save(.policies, policy.name, policy.json, in: transaction)
    }

    static func save(_ settings: ServiceSettings, in transaction: borrowing WriteTransaction) throws(EnrollmentError) {
        try save(.facts, "settings", settings.json, in: transaction)
    }

    private static func save(_ certificate: ServiceCertificate, in transaction: borrowing WriteTransaction) throws(EnrollmentError) {
        try save(.certificates, certificate.name.lowercased(), certificate.json(showsCode: true), in: transaction)
    }

    static func save(
        _ table: Table, _ key: String, _ document: JSONValue, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        try stored { () throws(StoreError) in try transaction.put(table, key, document.bytes()) }
    }

    static func remove(
        _ table: Table, _ key: String, _ word: String, in transaction: borrowing WriteTransaction
    ) throws(EnrollmentError) {
        let was = try stored { () throws(StoreError) in try transaction.delete(table, key) }
        guard was else { throw .notFound("no \(word) \(key)") }
    }

    /// A guid that only grows, so that none is given out twice.
    static func freshGuid(in transaction: borrowing WriteTransaction, now: Timestamp) throws(EnrollmentError) -> String {
        let number = try stored { () throws(StoreError) in
            let next = max(UInt64(clamping: now.milliseconds) << 16, try transaction.counter("etag") &+ 1)
            try transaction.setCounter("etag", next)
            return next
        }
        let digits = Hex.encode(withUnsafeBytes(of: number.bigEndian) { Array($0) })
        return "\(digits.prefix(8))-\(digits.dropFirst(8).prefix(4))-\(digits.suffix(4))-0000-000000000000"
    }
}
