import Glibc
import LinuxIO
import Store
import TLS
import Testing
import Wire

@testable import Enrollments

/// A provisioning service's store in a directory of its own, removed at the end.
final class Service {
    let paths: RuntimePaths
    let enrollments: Enrollments
    static let now = Timestamp(seconds: 1_700_000_000)

    init(scope: String = "0ne00012345") throws {
        let directory = "/tmp/iotstream-enrollments-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        paths = RuntimePaths(state: directory)
        enrollments = try Enrollments.open(paths, scope: scope)
    }

    deinit {
        for name in ["data.mdb", "lock.mdb"] { unlink("\(paths.provisioning)/\(name)") }
        rmdir(paths.provisioning)
        rmdir(paths.state)
    }

    static let key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    static let otherKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

    @discardableResult
    func put(_ kind: EnrollmentKind, _ id: String, _ document: JSONValue, _ condition: IfMatch = .absent) throws -> Enrollment {
        let outcome = try enrollments.perform(.put(try EnrollmentName(kind, id), document, condition), now: Self.now)
        return try #require(outcome.enrollment)
    }

    /// An enrollment with the keys above.
    static func symmetric(_ members: JSONValue = [:]) -> JSONValue {
        var document = members
        document["attestation"] = [
            "type": "symmetricKey", "symmetricKey": ["primaryKey": .string(key), "secondaryKey": .string(otherKey)],
        ]
        return document
    }

    func link(_ names: String..., weight: Int64 = 1) throws {
        for name in names {
            try enrollments.perform(
                .putHub([
                    "connectionString": .string("HostName=\(name);SharedAccessKeyName=iothubowner;SharedAccessKey=\(Self.otherKey)"),
                    "allocationWeight": .integer(weight),
                ]))
        }
    }

    static func token(_ id: String, _ key: SymmetricKey, expiry: Int64 = 1_700_003_600, scope: String = "0ne00012345") -> String {
        SASToken.make(resource: "\(scope)/registrations/\(id)", key: key, expiry: expiry)
    }

    func admit(_ id: String, token: String) throws(EnrollmentRefusal) -> Admission {
        try enrollments.authenticate(
            registrationID: id, token: token, certificates: ClientCertificates(), scope: "0ne00012345", now: 1_700_000_000)
    }

    /// A device's whole registration, with hubs that do all they are asked for.
    @discardableResult
    func register(_ id: String, _ key: SymmetricKey, version: String = "2019-03-31", migrated: Bool = true) throws -> RegistrationOperation
    {
        let admission = try admit(id, token: Self.token(id, key))
        let begun = try #require(try enrollments.perform(.begin(admission, payload: nil, apiVersion: version)).operation)
        guard begun.plan != nil else { return begun }
        return try #require(try enrollments.perform(.finish(operation: begun.id, .assigned(migrated: migrated))).operation)
    }
}
