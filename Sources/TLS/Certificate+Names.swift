import COpenSSL
import Glibc

extension Certificate {
    /// The subject in RFC 2253 text, most specific part first, safe to print.
    package var subject: String { Self.text(X509_get_subject_name(raw)) }
    /// The issuer in RFC 2253 text, most specific part first, safe to print.
    package var issuer: String { Self.text(X509_get_issuer_name(raw)) }

    /// The subject's common name exactly as it stands, for comparing; nil when there is none or more than one.
    package var commonName: String? { Self.commonName(of: X509_get_subject_name(raw)) }

    /// The one common name of an X509_NAME.
    static func commonName(of name: OpaquePointer?) -> String? {
        let index = X509_NAME_get_index_by_NID(name, NID_commonName, -1)
        guard index >= 0, X509_NAME_get_index_by_NID(name, NID_commonName, index) < 0 else { return nil }
        guard let value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index)) else { return nil }
        var start: UnsafeMutablePointer<UInt8>?
        let count = ASN1_STRING_to_UTF8(&start, value)
        guard count >= 0, let start else { return nil }
        defer { CRYPTO_free(start, "", 0) }
        return String(validating: UnsafeBufferPointer(start: start, count: Int(count)), as: UTF8.self)
    }

    /// The subject alternative names in their order; kinds other than DNS and IP are left out.
    package var alternativeNames: [AlternativeName] { AlternativeName.taking(X509_get_ext_d2i(raw, NID_subject_alt_name, nil, nil)) }

    static func text(_ name: OpaquePointer?) -> String {
        MemoryBIO.text { cssl_print_name($0, name) >= 0 }
    }
}

/// A name that a server's certificate answers to.
package enum AlternativeName: Hashable, Sendable, CustomStringConvertible {
    /// A host name, possibly `*.` and a domain.
    case dns(String)
    /// An IP address, 4 or 16 bytes in network order.
    case address([UInt8])

    /// Understands an address or a host name as people type it; a trailing dot is dropped.
    /// Throws `name` for anything that is neither: RFC 1034 section 3.5, underscores tolerated, at most 253 characters.
    package init(_ text: String) throws(CertificateError) {
        if let bytes = Self.parseAddress(text) {
            self = .address(bytes)
            return
        }
        let host = text.hasSuffix(".") ? String(text.dropLast()) : text
        guard !host.isEmpty, host.utf8.count <= 253 else {
            throw .name("'\(text.printable)' has \(host.utf8.count) characters, a host name has 1 to 253")
        }
        for (index, label) in host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).enumerated() {
            if index == 0, label.elementsEqual("*".utf8), host.utf8.count > 2 { continue }
            let fits = (1...63).contains(label.count) && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
            guard fits, label.allSatisfy(Self.isHostCharacter) else {
                throw .name("'\(text.printable)' is no host name or IP address (international names are written as xn--…)")
            }
        }
        self = .dns(host)
    }

    /// The names of a GENERAL_NAMES, which is freed; kinds other than DNS and IP are left out.
    static func taking(_ found: UnsafeMutableRawPointer?) -> [AlternativeName] {
        guard let found else { return [] }
        let names = OpaquePointer(found)
        defer { GENERAL_NAMES_free(names) }
        var result: [AlternativeName] = []
        for index in 0..<cssl_names_num(names) {
            guard let name = cssl_names_value(names, index) else { continue }
            var kind: CInt = 0
            guard let value = GENERAL_NAME_get0_value(name, &kind) else { continue }
            let string = UnsafePointer<ASN1_STRING>(value.assumingMemoryBound(to: ASN1_STRING.self))
            guard kind == GEN_DNS || kind == GEN_IPADD, let data = ASN1_STRING_get0_data(string) else { continue }
            let bytes = UnsafeBufferPointer(start: data, count: Int(ASN1_STRING_length(string)))
            if kind == GEN_DNS {
                if let text = String(validating: bytes, as: UTF8.self) { result.append(.dns(text)) }
            } else {
                result.append(.address(Array(bytes)))
            }
        }
        return result
    }

    /// These names as a GENERAL_NAMES, which the caller frees.
    static func list(_ names: [AlternativeName]) throws(CertificateError) -> OpaquePointer {
        guard let list = cssl_names_new() else { throw .last("GENERAL_NAMES_new") }
        for name in names {
            let (kind, type, bytes): (CInt, CInt, [UInt8]) =
                switch name {
                case .dns(let text): (GEN_DNS, V_ASN1_IA5STRING, Array(text.utf8))
                case .address(let bytes): (GEN_IPADD, V_ASN1_OCTET_STRING, bytes)
                }
            guard let entry = GENERAL_NAME_new(), let value = ASN1_STRING_type_new(type) else {
                GENERAL_NAMES_free(list)
                throw .last("GENERAL_NAME_new")
            }
            GENERAL_NAME_set0_value(entry, kind, value)
            guard ASN1_STRING_set(value, bytes, CInt(bytes.count)) == 1, cssl_names_push(list, entry) > 0 else {
                GENERAL_NAME_free(entry)
                GENERAL_NAMES_free(list)
                throw .last("sk_GENERAL_NAME_push")
            }
        }
        return list
    }

    private static func isHostCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "_"): true
        default: false
        }
    }

    private static func parseAddress(_ text: String) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &bytes) == 1 { return Array(bytes.prefix(4)) }
        if inet_pton(AF_INET6, text, &bytes) == 1 { return bytes }
        return nil
    }

    /// The name as people write it, safe to print.
    package var description: String {
        switch self {
        case .dns(let text): return text.printable
        case .address(let bytes):
            var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            let family = bytes.count == 4 ? AF_INET : AF_INET6
            guard bytes.count == 4 || bytes.count == 16, inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else {
                return bytes.upperHex
            }
            return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }
}

extension String {
    /// The text with control characters made visible, so that it cannot steer a terminal or break a line.
    package var printable: String {
        var result = ""
        for scalar in unicodeScalars {
            let control = scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || (0x2028...0x202E).contains(scalar.value)
            if control { result += "\\u{\(String(scalar.value, radix: 16))}" } else { result.unicodeScalars.append(scalar) }
        }
        return result
    }
}
