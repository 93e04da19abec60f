import COpenSSL

extension Certificate {
    /// basicConstraints says CA:true, and a key usage does not speak against it.
    package var isCA: Bool { claimsCA && X509_check_ca(raw) == 1 }

    /// basicConstraints says CA:true.
    package var claimsCA: Bool { X509_get_extension_flags(raw) & UInt32(EXFLAG_CA) != 0 }

    /// Whether OpenSSL can read every extension that it knows, and none of them stands there twice.
    package var hasReadableExtensions: Bool { X509_get_extension_flags(raw) & UInt32(EXFLAG_INVALID) == 0 }

    /// How many CA certificates may follow below this one; nil when there is no limit.
    package var pathLength: Int? {
        let length = X509_get_pathlen(raw)
        return length >= 0 ? length : nil
    }

    /// The key usage, RFC 5280 section 4.2.1.3; nil when the certificate has no such extension.
    package var keyUsage: KeyUsage? {
        let bits = X509_get_key_usage(raw)
        return bits == UInt32.max ? nil : KeyUsage(rawValue: bits)
    }

    /// The purposes of the extended key usage by OpenSSL's short names (`serverAuth`), unknown ones as dotted numbers;
    /// nil when the certificate has no such extension.
    package var extendedKeyUsage: [String]? {
        guard let found = X509_get_ext_d2i(raw, NID_ext_key_usage, nil, nil) else { return nil }
        let purposes = OpaquePointer(found)
        defer { EXTENDED_KEY_USAGE_free(purposes) }
        return (0..<cssl_oids_num(purposes)).map { index in
            let object = cssl_oids_value(purposes, index)
            let number = OBJ_obj2nid(object)
            if number != NID_undef, let name = OBJ_nid2sn(number) { return String(cString: name) }
            var text = [CChar](repeating: 0, count: 128)
            let count = OBJ_obj2txt(&text, CInt(text.count), object, 1)
            return String(decoding: text.prefix(max(0, min(Int(count), 127))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// The subject key identifier in upper-case hex.
    package var subjectKeyIdentifier: String? {
        X509_get0_subject_key_id(raw).map { Self.bytes(of: $0).upperHex }
    }

    /// The authority key identifier in upper-case hex.
    package var authorityKeyIdentifier: String? {
        X509_get0_authority_key_id(raw).map { Self.bytes(of: $0).upperHex }
    }

    /// The public key's kind as people say it: `EC P-256`, `RSA`, `Ed25519`.
    package var publicKeyAlgorithm: String { PrivateKey.algorithmName(X509_get0_pubkey(raw)) }
    /// The public key's size in bits; 0 when OpenSSL cannot read the key.
    package var publicKeyBits: Int { X509_get0_pubkey(raw).map { Int(EVP_PKEY_get_bits($0)) } ?? 0 }

    /// The algorithm the issuer signed with, by OpenSSL's name: `ecdsa-with-SHA256`.
    package var signatureAlgorithm: String {
        OBJ_nid2ln(X509_get_signature_nid(raw)).map { String(cString: $0) } ?? "unknown"
    }

    private static func bytes(of string: UnsafePointer<ASN1_STRING>) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(start: ASN1_STRING_get0_data(string), count: Int(ASN1_STRING_length(string)))
    }
}

/// What a key may be used for, RFC 5280 section 4.2.1.3; the raw value has OpenSSL's bits.
package struct KeyUsage: OptionSet, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let digitalSignature = KeyUsage(rawValue: 0x80)
    package static let nonRepudiation = KeyUsage(rawValue: 0x40)
    package static let keyEncipherment = KeyUsage(rawValue: 0x20)
    package static let dataEncipherment = KeyUsage(rawValue: 0x10)
    package static let keyAgreement = KeyUsage(rawValue: 0x08)
    package static let keyCertSign = KeyUsage(rawValue: 0x04)
    package static let cRLSign = KeyUsage(rawValue: 0x02)
    package static let encipherOnly = KeyUsage(rawValue: 0x01)
    package static let decipherOnly = KeyUsage(rawValue: 0x8000)

    /// The uses by the names of RFC 5280.
    package var names: [String] {
        let all: [(KeyUsage, String)] = [
            (.digitalSignature, "digitalSignature"), (.nonRepudiation, "nonRepudiation"), (.keyEncipherment, "keyEncipherment"),
            (.dataEncipherment, "dataEncipherment"), (.keyAgreement, "keyAgreement"), (.keyCertSign, "keyCertSign"),
            (.cRLSign, "cRLSign"), (.encipherOnly, "encipherOnly"), (.decipherOnly, "decipherOnly"),
        ]
        return all.filter { contains($0.0) }.map(\.1)
    }

    package var description: String { names.joined(separator: ",") }
}
