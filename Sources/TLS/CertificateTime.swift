import COpenSSL
import Glibc

/// ASN.1 times and unix seconds.
package enum CertificateTime {
    /// Seconds since 1970 of a UTCTime or GeneralizedTime; nil when it is neither.
    static func unix(_ time: UnsafePointer<ASN1_TIME>?) -> Int64? {
        var parts = tm()
        guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else {
            ERR_clear_error()
            return nil
        }
        return Int64(timegm(&parts))
    }

    /// `2026-11-21T01:05:00Z`: RFC 3339 in UTC.
    package static func text(_ unix: Int64) -> String {
        var seconds = time_t(unix)
        var parts = tm()
        guard gmtime_r(&seconds, &parts) != nil else { return "\(unix)" }
        func two(_ number: CInt) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let year = String(Int(parts.tm_year) + 1900)
        let padded = String(repeating: "0", count: max(0, 4 - year.count)) + year
        let day = "\(padded)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
        return "\(day)T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
    }
}

/// Text that OpenSSL writes to memory.
enum MemoryBIO {
    /// What `body` writes; empty when it returns false. OpenSSL wipes the memory afterwards.
    static func bytes(_ body: (OpaquePointer) -> Bool) -> [UInt8] {
        guard let bio = BIO_new(BIO_s_mem()) else { return [] }
        defer { BIO_free(bio) }
        guard body(bio) else {
            ERR_clear_error()
            return []
        }
        var start: UnsafeMutablePointer<CChar>?
        let count = cssl_bio_data(bio, &start)
        guard count > 0, let start else { return [] }
        return Array(UnsafeRawBufferPointer(start: start, count: count))
    }

    static func text(_ body: (OpaquePointer) -> Bool) -> String {
        String(decoding: bytes(body), as: UTF8.self)
    }

    /// Lends `bytes` to OpenSSL as something to read from.
    static func reading<Result>(_ bytes: [UInt8], _ body: (OpaquePointer) -> Result) -> Result? {
        bytes.withUnsafeBytes { buffer in
            guard let bio = BIO_new_mem_buf(buffer.baseAddress ?? UnsafeRawPointer(bitPattern: 1), CInt(clamping: buffer.count)) else {
                return nil
            }
            defer { BIO_free(bio) }
            return body(bio)
        }
    }
}
