import Bytes
import Query
import Store
import Wire

/// The rules of enrollments, registrations and assignment over one store (dps). No sockets; the time is passed in.
package struct Enrollments: Sendable {
    package let store: Store

    package init(store: Store) { self.store = store }

    /// Opens `STATE/provisioning`. A new one gets an id scope and a policy `provisioningserviceowner` with every right.
    ///
    /// - Parameter scope: the id scope that the service is to have from now on; nil leaves it.
    package static func open(
        _ paths: RuntimePaths, _ options: Store.Options = Store.Options(), scope: String? = nil
    ) throws(EnrollmentError) -> Enrollments {
        var options = options
        options.kind = .provisioning
        let enrollments = Enrollments(store: try stored { () throws(StoreError) in try Store.open(at: paths, options) })
        guard options.access == .readWrite else { return enrollments }
        let settings = try enrollments.settings()
        if settings.scope.isEmpty || scope.map({ $0 != settings.scope }) ?? false { try enrollments.seed(scope, settings) }
        return enrollments
    }

    private func seed(_ scope: String?, _ known: ServiceSettings) throws(EnrollmentError) {
        var settings = known
        if settings.scope.isEmpty { settings.scope = ServiceSettings.freshScope() }
        if let scope {
            guard (1...64).contains(scope.utf8.count), scope.utf8.allSatisfy({ ASCII.lowercased($0) &- 0x61 < 26 || ASCII.isDigit($0) })
            else {
                throw .invalid("an id scope has letters and digits")
            }
            settings.scope = scope
        }
        try store.write { transaction throws(EnrollmentError) in
            if try Self.settings(in: transaction).scope.isEmpty {
                try Self.save(try ServicePolicy(name: "provisioningserviceowner", rights: .all), in: transaction)
            }
            try Self.save(settings, in: transaction)
        }
    }

    /// Runs a command and waits for its commit: for tools. Blocks on the disk.
    @discardableResult
    package func perform(_ command: EnrollmentCommand, now: Timestamp = .now) throws(EnrollmentError) -> EnrollmentOutcome {
        try store.write { transaction throws(EnrollmentError) in try Self.apply(command, in: transaction, now: now) }
    }

    /// Queues a command for the service's writer; `completion` is called on the writer's thread, after the commit.
    package func submit(
        _ command: EnrollmentCommand, to writer: GroupWriter, now: Timestamp = .now,
        completion: @escaping @Sendable (Result<EnrollmentOutcome, EnrollmentError>) -> Void
    ) {
        writer.submit(
            { transaction throws(EnrollmentError) in try Self.apply(command, in: transaction, now: now) }, completion: completion)
    }

    /// Runs `body` on one snapshot.
    func read<Output>(_ body: (borrowing ReadTransaction) throws(EnrollmentError) -> Output) throws(EnrollmentError) -> Output {
        try store.read(body)
    }
}

/// What holds for the whole service.
package struct ServiceSettings: Equatable, Sendable {
    /// Names this service to devices (dps 1).
    package var scope: String
    /// For enrollments that name none; never `custom`.
    package var allocation: AllocationPolicy

    package var json: JSONValue { ["idScope": .string(scope), "allocationPolicy": .string(allocation.rawValue)] }

    init(json: JSONValue?) {
        scope = json?["idScope"]?.string ?? ""
        allocation = json?["allocationPolicy"]?.string.flatMap { AllocationPolicy(rawValue: $0) } ?? .hashed
    }

    /// `0ne` and eight digits.
    static func freshScope() -> String {
        "0ne" + [UInt8].random(count: 8).map { String($0 % 10) }.joined()
    }
}

// MARK: - Records

extension Enrollments {
    /// The record of a key; `damaged` when there is one that cannot be read.
    static func find<Value: Sendable>(
        _ table: Table, _ key: String, in transaction: borrowing some Snapshot & ~Copyable, _ read: (RawSpan) -> Value?
    ) throws(EnrollmentError) -> Value? {
        try stored { () throws(StoreError) in
            try transaction.lend(table, key) { bytes throws(StoreError) in
                guard let value = read(bytes) else { throw .damaged(path: "provisioning", reason: "a record of \(table)") }
                return value
            }
        }
    }

    /// Records in the order of their keys: at most `top`, beginning with the key `start`.
    static func all<Value>(
        _ table: Table, prefix: String = "", from start: String? = nil, top: Int = .max,
        in transaction: borrowing some Snapshot & ~Copyable, _ read: (_ key: RawSpan, _ value: RawSpan) -> Value?
    ) throws(EnrollmentError) -> [Value] {
        try stored { () throws(StoreError) in
            try transaction.collect(table, prefix: prefix, from: start, top: top) { key, bytes throws(StoreError) in
                guard let value = read(key, bytes) else { throw .damaged(path: "provisioning", reason: "a record of \(table)") }
                return value
            }
        }
    }

    private static let enrollmentsRead = RecordMemo<Enrollment?>()
    private static let groupsRead = RecordMemo<Enrollment?>()
    private static let hubsRead = RecordMemo<LinkedHub?>()

    static func decode(_ bytes: RawSpan, _ kind: EnrollmentKind) -> Enrollment? {
        (kind == .group ? groupsRead : enrollmentsRead).value(of: bytes) { Enrollment(record: $0, kind) }
    }

    static func find(
        _ name: EnrollmentName, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(EnrollmentError) -> Enrollment? {
        try find(name.kind.table, name.key, in: transaction) { decode($0, name.kind) }
    }

    static func require(
        _ name: EnrollmentName, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(EnrollmentError) -> Enrollment {
        guard let enrollment = try find(name, in: transaction) else { throw .notFound("no \(name.kind.word) \(name.id)") }
        return enrollment
    }

    static func record(
        _ registrationID: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(EnrollmentError) -> RegistrationRecord? {
        try find(.registrations, registrationID.lowercased(), in: transaction) { RegistrationRecord(record: $0) }
    }

    static func hubs(in transaction: borrowing some Snapshot & ~Copyable) throws(EnrollmentError) -> [LinkedHub] {
        try all(.hubs, in: transaction) { _, bytes in hubsRead.value(of: bytes) { LinkedHub(record: $0) } }
    }

    static func certificate(
        _ name: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(EnrollmentError) -> ServiceCertificate? {
        try find(.certificates, name.lowercased(), in: transaction) { ServiceCertificate(record: $0) }
    }

    static func settings(in transaction: borrowing some Snapshot & ~Copyable) throws(EnrollmentError) -> ServiceSettings {
        try find(.facts, "settings", in: transaction) { ServiceSettings(json: try? JSONValue.parse($0)) } ?? ServiceSettings(json: nil)
    }
}

// MARK: - Reading

extension Enrollments {
    package func settings() throws(EnrollmentError) -> ServiceSettings {
        try read { transaction throws(EnrollmentError) in try Self.settings(in: transaction) }
    }

    package func enrollment(_ name: EnrollmentName) throws(EnrollmentError) -> Enrollment {
        try read { transaction throws(EnrollmentError) in try Self.require(name, in: transaction) }
    }

    /// Where a device was assigned; nil when it never was.
    package func record(_ registrationID: String) throws(EnrollmentError) -> RegistrationRecord? {
        try read { transaction throws(EnrollmentError) in try Self.record(registrationID, in: transaction) }
    }

    package func hubs() throws(EnrollmentError) -> [LinkedHub] {
        try read { transaction throws(EnrollmentError) in try Self.hubs(in: transaction) }
    }

    /// The linked hub of that name, without regard to case; nil when there is none.
    package func hub(_ name: String) throws(EnrollmentError) -> LinkedHub? {
        try read { transaction throws(EnrollmentError) in
            try Self.find(.hubs, name.lowercased(), in: transaction) { LinkedHub(record: $0) }
        }
    }

    package func certificates() throws(EnrollmentError) -> [ServiceCertificate] {
        try read { transaction throws(EnrollmentError) in
            try Self.all(.certificates, in: transaction) { _, bytes in ServiceCertificate(record: bytes) }
        }
    }

    package func policies() throws(EnrollmentError) -> [ServicePolicy] {
        try read { transaction throws(EnrollmentError) in
            try Self.all(.policies, in: transaction) { _, bytes in ServicePolicy(record: bytes) }
        }
    }

    /// Records that are looked at for one page, once there is something on it: a page must not take too long, and to some clients an
    /// empty one is the last.
    private static let mostLookedAt = 5000

    /// A page of enrollments that meet a query, in the order of their ids, and the key that the next page begins with.
    package func enrollments(
        _ kind: EnrollmentKind, matching query: Query? = nil, from start: String? = nil, top: Int = .max
    ) throws(EnrollmentError) -> (page: [Enrollment], next: String?) {
        try read { transaction throws(EnrollmentError) in
            var page: [Enrollment] = []
            var next: String?
            var lookedAt = 0
            try stored { () throws(StoreError) in
                try transaction.scan(kind.table, from: start) { key, bytes throws(StoreError) in
                    guard let enrollment = Enrollment(record: bytes, kind) else {
                        throw .damaged(path: "provisioning", reason: "a record of \(kind.table)")
                    }
                    lookedAt += 1
                    let isTired = lookedAt > Self.mostLookedAt && !page.isEmpty
                    guard isTired || query?.matches(enrollment.json()) ?? true else { return true }
                    guard page.count < top, !isTired else {
                        next = key.toString()
                        return false
                    }
                    page.append(enrollment)
                    return true
                }
            }
            return (page, next)
        }
    }

    /// A page of the records of devices that registered by a group, in the order of their ids.
    package func records(
        ofGroup id: String, from start: String? = nil, top: Int = .max
    ) throws(EnrollmentError) -> (page: [RegistrationRecord], next: String?) {
        let prefix = "\(id.lowercased())\0"
        return try read { transaction throws(EnrollmentError) in
            let keys = try Self.all(
                .members, prefix: prefix, from: start.map { prefix + $0 }, top: top == .max ? top : top + 1, in: transaction
            ) { key, _ in key.toString().map { String($0.dropFirst(prefix.count)) } }
            var page: [RegistrationRecord] = []
            for key in keys.prefix(top) { if let record = try Self.record(key, in: transaction) { page.append(record) } }
            return (page, keys.count > top ? keys.last : nil)
        }
    }
}
