import TLS
import Wire

/// A device that has proved itself: by which enrollment, and how the hub is to know it.
package struct Admission: Sendable {
    package let enrollment: Enrollment
    /// As the device has written it.
    package let registrationID: String
    /// The hub device's `authentication` (dps 11): keys, or the thumbprint of the leaf. Has secrets.
    package let authentication: JSONValue
    /// `symmetricKey` or `x509`.
    package let attestationType: String
    /// What the registration state says there (dps 6.2).
    package let attestation: JSONValue

    init(_ enrollment: Enrollment, _ registrationID: String, primary: SymmetricKey, secondary: SymmetricKey) {
        self.enrollment = enrollment
        self.registrationID = registrationID
        attestationType = "symmetricKey"
        attestation = Self.group(of: enrollment)
        authentication = [
            "type": "sas", "symmetricKey": ["primaryKey": .string(primary.base64), "secondaryKey": .string(secondary.base64)],
        ]
    }

    /// - Parameter authority: the certificate that the leaf was found to come from; nil when the leaf itself is enrolled.
    init(_ enrollment: Enrollment, _ registrationID: String, leaf: Certificate, authority: Certificate?) {
        self.enrollment = enrollment
        self.registrationID = registrationID
        attestationType = "x509"
        var attestation = Self.group(of: enrollment)
        attestation["certificateInfo"] = leaf.info
        attestation["signingCertificateInfo"] = authority?.info
        self.attestation = attestation
        authentication = ["type": "selfSigned", "x509Thumbprint": ["primaryThumbprint": .string(leaf.sha256Thumbprint)]]
    }

    private static func group(of enrollment: Enrollment) -> JSONValue {
        enrollment.name.kind == .group ? ["enrollmentGroupId": .string(enrollment.name.id)] : [:]
    }
}

/// Why a device may not register: for log and audit. The device hears no more than `error`.
package struct EnrollmentRefusal: Error, Equatable, Sendable {
    /// Words with hyphens: `wrong-signature`, `disabled`, `expired`.
    package let code: String
    /// One line for a person.
    package let words: String
    package let error: EnrollmentError

    init(_ code: String, _ words: String, _ message: String = "Unauthorized") {
        self.code = code
        self.words = words
        error = .refused(code: 401002, message)
    }

    init(_ error: EnrollmentError) {
        code = "store-failed"
        words = "\(error)"
        self.error = error
    }
}
