import Glibc
import Wire

/// What a file is known by.
package struct BlobProperties: Equatable, Sendable {
    package let size: Int
    /// Nanoseconds since 1970.
    package let modifiedNanoseconds: Int64
    let inode: UInt64

    init(_ status: stat) {
        size = Int(status.st_size)
        modifiedNanoseconds = Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
        inode = UInt64(status.st_ino)
    }

    /// With its quotes. Another one for each version of the file.
    package var etag: String {
        "\"0x\(String(UInt64(bitPattern: modifiedNanoseconds), radix: 16, uppercase: true))\(String(inode, radix: 16, uppercase: true))\""
    }

    /// Seconds since 1970.
    package var modifiedSeconds: Int64 { modifiedNanoseconds / 1_000_000_000 }
}

/// What a request wants of the file that is there: RFC 9110 section 13.
package struct BlobConditions: Equatable, Sendable {
    /// Entity tags, `*` for any; empty when nothing is asked.
    package var match: [String] = [], noneMatch: [String] = []
    /// Seconds since 1970.
    package var modifiedSince: Int64?, unmodifiedSince: Int64?

    package init() {}

    /// Reads the fields of a request; a date that is none asks nothing.
    package init(_ headers: HTTPHeaders) {
        match = headers.tokens(in: "If-Match")
        noneMatch = headers.tokens(in: "If-None-Match")
        modifiedSince = headers["If-Modified-Since"].flatMap { HTTPDate.parse($0) }
        unmodifiedSince = headers["If-Unmodified-Since"].flatMap { HTTPDate.parse($0) }
    }

    /// Before a file is written.
    func checkWriting(over existing: BlobProperties?) throws(BlobError) {
        guard let existing else {
            guard match.isEmpty else { throw .conditionFailed }
            return
        }
        guard !noneMatch.contains("*") else { throw .exists }
        guard isFresh(existing), !isSeen(existing) else { throw .conditionFailed }
    }

    /// Whether the file is still the one that is meant.
    package func isFresh(_ existing: BlobProperties) -> Bool {
        guard match.isEmpty || match.contains("*") || match.contains(existing.etag) else { return false }
        return unmodifiedSince.map { existing.modifiedSeconds <= $0 } ?? true
    }

    /// Whether the file is one that the client knows.
    package func isSeen(_ existing: BlobProperties) -> Bool {
        if noneMatch.contains("*") || noneMatch.contains(existing.etag) { return true }
        return noneMatch.isEmpty && modifiedSince.map { existing.modifiedSeconds <= $0 } ?? false
    }
}
