import Store
import Wire

/// Whether an enrollment is for one device or for many.
package enum EnrollmentKind: String, Sendable, CaseIterable {
    case individual, group

    /// The member of documents that has the id.
    package var idMember: String { self == .individual ? "registrationId" : "enrollmentGroupId" }
    /// The first segment of its path in the service API, the list's name in bulk requests, and the source of queries.
    package var collection: String { self == .individual ? "enrollments" : "enrollmentGroups" }
    /// `x-ms-item-type` of a page.
    var itemType: String { self == .individual ? "Enrollment" : "EnrollmentGroup" }
    var table: Table { self == .individual ? .enrollments : .groups }
    /// For people.
    package var word: String { self == .individual ? "enrollment" : "enrollment group" }
}

/// Names an enrollment: ids of a kind that differ in case only are the same (dps 1).
package struct EnrollmentName: Hashable, Sendable, CustomStringConvertible {
    package let kind: EnrollmentKind
    /// As written when it was created.
    package let id: String
    /// In lower case.
    package let key: String

    package init(_ kind: EnrollmentKind, _ id: String) throws(EnrollmentError) {
        guard Identifier.isValidRegistrationID(id) else {
            throw .invalid("\(kind.idMember) has 1 to 128 letters, digits and - . _ :, and a letter, digit or - at its end")
        }
        self.kind = kind
        self.id = id
        key = id.lowercased()
    }

    package static func == (one: Self, other: Self) -> Bool { one.kind == other.kind && one.key == other.key }
    package func hash(into hasher: inout Hasher) { hasher.combine(key) }
    package var description: String { id }
}
