import Bytes
import TLS
import Wire

/// A CA certificate of the service, which counts once its owner has shown that he has the key (dps 15.2).
package struct ServiceCertificate: Sendable {
    package let name: String
    package internal(set) var certificate: Certificate
    package internal(set) var isVerified: Bool
    /// What a certificate signed by it must have as its common name; single-use.
    package internal(set) var code: String?
    /// Without quotes.
    package internal(set) var etag: String
    package let created: Timestamp
    package internal(set) var updated: Timestamp

    /// - Parameter showsCode: the answer of `generateVerificationCode`, and the record.
    package func json(showsCode: Bool = false) -> JSONValue {
        [
            "name": .string(name), "etag": .string(etag),
            "properties": .object(of: [
                "subject": .string(certificate.subject), "expiry": .string(HTTPDate.text(certificate.notAfter)),
                "thumbprint": .string(certificate.sha1Thumbprint), "isVerified": .bool(isVerified),
                "created": .string(created.description), "updated": .string(updated.description),
                "certificate": .string(Base64.encode(certificate.der)),
                "verificationCode": showsCode ? code.map { .string($0) } : .none,
            ]),
        ]
    }

    init(name: String, certificate: Certificate, isVerified: Bool, etag: String, created: Timestamp, updated: Timestamp) {
        self.name = name
        self.certificate = certificate
        self.isVerified = isVerified
        self.etag = etag
        self.created = created
        self.updated = updated
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let properties = json["properties"], let name = json["name"]?.string,
            let certificate = properties["certificate"]?.string.flatMap({ try? Certificate(written: $0) }),
            let etag = json["etag"]?.string, let created = properties["created"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let updated = properties["updated"]?.string.flatMap({ Timestamp(parsing: $0) })
        else { return nil }
        self.init(
            name: name, certificate: certificate, isVerified: properties["isVerified"]?.bool == true, etag: etag, created: created,
            updated: updated)
        code = properties["verificationCode"]?.string
    }
}
