import Bytes
import Store
import TLS
import Wire

/// A certificate whose holder vouches for devices, once it has proved that it has the key (attestation 5.1).
package struct Authority: Sendable {
    package let name: String
    package internal(set) var certificate: Certificate
    /// Devices come in by it only when it is.
    package internal(set) var isVerified: Bool
    package internal(set) var createdTime, updatedTime: Timestamp
    package internal(set) var etag = ""
    /// What its holder has to sign: 48 hexadecimal digits; nil until somebody asks for one, and after the proof.
    package internal(set) var verificationCode: String?

    init(name: String, certificate: Certificate, isVerified: Bool, now: Timestamp) {
        self.name = name
        self.certificate = certificate
        self.isVerified = isVerified
        createdTime = now
        updatedTime = now
    }

    /// The document of the management calls, without the verification code.
    package var json: JSONValue {
        [
            "name": .string(name), "type": "Microsoft.Devices/IotHubs/Certificates", "etag": .string(etag),
            "properties": [
                "subject": .string(certificate.commonName ?? certificate.subject), "expiry": .string(HTTPDate.text(certificate.notAfter)),
                "thumbprint": .string(certificate.sha1Thumbprint), "isVerified": .bool(isVerified),
                "created": .string(HTTPDate.text(createdTime.seconds)), "updated": .string(HTTPDate.text(updatedTime.seconds)),
                "certificate": .string(Base64.encode(certificate.der)),
            ],
        ]
    }

    /// The document with the code: the answer to who asked for one.
    package var jsonWithCode: JSONValue {
        var document = json, properties = json["properties"] ?? [:]
        properties["verificationCode"] = verificationCode.map { .string($0) } ?? .null
        document["properties"] = properties
        return document
    }

    var record: [UInt8] {
        let document: JSONValue = [
            "name": .string(name), "certificate": .string(Base64.encode(certificate.der)), "isVerified": .bool(isVerified),
            "created": .string(createdTime.description), "updated": .string(updatedTime.description), "etag": .string(etag),
            "verificationCode": verificationCode.map { .string($0) } ?? .null,
        ]
        return document.bytes()
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let name = json["name"]?.string,
            let certificate = json["certificate"]?.string.flatMap({ try? Self.certificate(from: $0) }),
            let created = json["created"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let updated = json["updated"]?.string.flatMap({ Timestamp(parsing: $0) })
        else { return nil }
        self.init(name: name, certificate: certificate, isVerified: json["isVerified"]?.bool ?? false, now: created)
        updatedTime = updated
        etag = json["etag"]?.string ?? ""
        verificationCode = json["verificationCode"]?.string
    }

    /// A certificate as callers send it: PEM, DER in Base64, or PEM in Base64 as the vendor's tools do it. The first one counts.
    package static func certificate(from text: String) throws(RegistryError) -> Certificate {
        do throws(CertificateError) {
            if text.utf8.starts(with: "-----".utf8) { return try Certificate(pem: Array(text.utf8)) }
            let bare = text.utf8.filter { $0 > 0x20 }
            guard let bytes = Base64.decode(String(decoding: bare, as: UTF8.self)), !bytes.isEmpty else {
                throw .malformed("neither PEM nor Base64")
            }
            return try CertificateChain(bytes: bytes).leaf
        } catch {
            throw .argumentInvalid("the certificate: \(error)")
        }
    }
}
