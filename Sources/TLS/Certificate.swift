import COpenSSL
import Glibc

/// An X.509 certificate. It never changes once read or made.
///
/// Unchecked Sendable: OpenSSL counts references atomically and guards the extensions it caches with a lock of its own.
package final class Certificate: @unchecked Sendable {
    /// The X509*, owned by this object.
    package let raw: OpaquePointer
    /// First and last second of validity, unix time.
    package let notBefore, notAfter: Int64

    /// Takes over one reference to an X509*; gives it back when it throws.
    package init(adopting raw: OpaquePointer) throws(CertificateError) {
        guard let from = CertificateTime.unix(X509_get0_notBefore(raw)), let until = CertificateTime.unix(X509_get0_notAfter(raw)) else {
            X509_free(raw)
            throw .malformed("its dates cannot be read")
        }
        self.raw = raw
        notBefore = from
        notAfter = until
    }

    /// A certificate that somebody else owns too: the peer's in a handshake, for one.
    package convenience init(sharing raw: OpaquePointer) throws(CertificateError) {
        X509_up_ref(raw)
        try self.init(adopting: raw)
    }

    /// One certificate as DER, with nothing after it.
    package convenience init(der: [UInt8]) throws(CertificateError) {
        var end = 0
        let parsed: OpaquePointer? = der.withUnsafeBufferPointer { buffer in
            var cursor = buffer.baseAddress
            guard cursor != nil, let certificate = d2i_X509(nil, &cursor, buffer.count) else { return nil }
            end = cursor.map { $0 - (buffer.baseAddress ?? $0) } ?? 0
            return certificate
        }
        guard let parsed else { throw .malformed(CertificateError.lastReason()) }
        guard end == der.count else {
            X509_free(parsed)
            throw .malformed("\(der.count - end) bytes follow the certificate")
        }
        try self.init(adopting: parsed)
    }

    /// The first certificate of PEM text.
    package convenience init(pem: [UInt8]) throws(CertificateError) {
        let all = try CertificateChain.parse(pem: pem)
        guard let first = all.first else { throw .noCertificate }
        try self.init(sharing: first.raw)
    }

    deinit { X509_free(raw) }

    /// The certificate as DER.
    package var der: [UInt8] {
        var start: UnsafeMutablePointer<UInt8>?
        let count = i2d_X509(raw, &start)
        guard count > 0, let start else { return [] }
        defer { CRYPTO_free(start, "", 0) }
        return Array(UnsafeBufferPointer(start: start, count: Int(count)))
    }

    /// The certificate as PEM text.
    package var pem: String {
        MemoryBIO.text { PEM_write_bio_X509($0, raw) == 1 }
    }

    /// SHA-1 of the DER, 40 upper-case hex digits.
    package var sha1Thumbprint: String { thumbprint(EVP_sha1()) }
    /// SHA-256 of the DER, 64 upper-case hex digits.
    package var sha256Thumbprint: String { thumbprint(EVP_sha256()) }

    private func thumbprint(_ digest: OpaquePointer?) -> String {
        var bytes = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var count: UInt32 = 0
        guard X509_digest(raw, digest, &bytes, &count) == 1 else { return "" }
        return bytes.prefix(Int(count)).upperHex
    }

    /// The serial number as upper-case hex digits, two to a byte.
    package var serial: String {
        guard let number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(raw), nil) else { return "" }
        defer { BN_free(number) }
        var bytes = [UInt8](repeating: 0, count: Int((BN_num_bits(number) + 7) / 8))
        BN_bn2bin(number, &bytes)
        return (BN_is_negative(number) == 1 ? "-" : "") + (bytes.isEmpty ? "00" : bytes.upperHex)
    }

    /// Byte for byte the same certificate.
    package func isSame(as other: Certificate) -> Bool {
        X509_cmp(raw, other.raw) == 0
    }

    /// Whether `issuer` has signed this certificate: its name and its key, dates aside.
    package func isIssued(by issuer: Certificate) -> Bool {
        guard X509_NAME_cmp(X509_get_issuer_name(raw), X509_get_subject_name(issuer.raw)) == 0 else { return false }
        let verified = X509_verify(raw, X509_get0_pubkey(issuer.raw)) == 1
        if !verified { ERR_clear_error() }
        return verified
    }

    /// Issued by itself: a root, or a device's own certificate.
    package var isSelfSigned: Bool { isIssued(by: self) }
}

extension Sequence<UInt8> {
    /// Two upper-case hex digits to a byte.
    var upperHex: String {
        let digits = Array("0123456789ABCDEF".utf8)
        var text: [UInt8] = []
        for byte in self {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
