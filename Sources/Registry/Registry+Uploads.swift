import Store
import Wire

// Files that devices upload (mqtt-device 15). The files themselves are the hub's matter; here is which uploads have begun, and which files
// services have not heard of yet.

/// An upload that a device has begun and not reported the end of.
package struct PendingUpload: Equatable, Sendable {
    /// What the hub calls it: 32 hexadecimal digits.
    package let correlationID: String
    /// The file, as `{deviceId}/{path}`.
    package let file: String
    /// When its link is over.
    package let expiry: Timestamp

    package init(correlationID: String, file: String, expiry: Timestamp) {
        self.correlationID = correlationID
        self.file = file
        self.expiry = expiry
    }

    /// Whether a text could be a correlation id.
    package static func isCorrelationID(_ text: String) -> Bool {
        text.utf8.count == 32 && text.utf8.allSatisfy { ASCII.hexValue($0) != nil }
    }

    var record: [UInt8] {
        let json: JSONValue = ["file": .string(file), "expiry": .string(expiry.description)]
        return json.bytes()
    }

    init?(correlationID: String, record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let file = json["file"]?.string,
            let expiry = json["expiry"]?.string.flatMap({ Timestamp(parsing: $0) })
        else { return nil }
        self.init(correlationID: correlationID, file: file, expiry: expiry)
    }
}

/// A file that has come, for services to hear of.
package struct FileArrival: Equatable, Sendable {
    package let uri: String
    /// `{deviceId}/{path}`.
    package let file: String
    package let bytes: Int
    package let modified: Timestamp

    package init(uri: String, file: String, bytes: Int, modified: Timestamp) {
        self.uri = uri
        self.file = file
        self.bytes = bytes
        self.modified = modified
    }
}

extension Registry {
    /// Uploads of one device that may be pending at once.
    package static let mostUploads = 10
    /// Notifications of files that are kept; the oldest go first.
    static let mostFileNotices = 10_000

    /// The key that signs the links to files; made when there is none yet.
    package func uploadKey() throws(RegistryError) -> SymmetricKey {
        let found = try read { transaction throws(RegistryError) in try Self.findUploadKey(in: transaction) }
        if let found { return found }
        return try store.write { transaction throws(RegistryError) in
            if let found = try Self.findUploadKey(in: transaction) { return found }
            let key = try AuthenticationRequest.fresh(), record: JSONValue = ["key": .string(key.base64)]
            try Self.stored { () throws(StoreError) in try transaction.put(.facts, uploadKeyName, record.bytes()) }
            return key
        }
    }

    private static func findUploadKey(in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> SymmetricKey? {
        let record = try stored { () throws(StoreError) in try transaction.get(.facts, uploadKeyName) }
        return record.flatMap { try? JSONValue.parse($0) }.flatMap { $0["key"]?.string }.flatMap { SymmetricKey(base64: $0) }
    }

    /// An upload that has begun, or the error for one that has not, or not lately.
    package func upload(_ correlationID: String, of device: String, now: Timestamp = .now) throws(RegistryError) -> PendingUpload {
        try read { transaction throws(RegistryError) in try Self.pending(correlationID, of: device, in: transaction, now: now) }
    }

    /// The oldest notifications of files, `limit` at most, that `isFree` says nobody holds.
    package func fileNotices(limit: Int, where isFree: (UInt64) -> Bool) throws(RegistryError) -> [MessageFeedback] {
        try read { transaction throws(RegistryError) in
            var found: [MessageFeedback] = []
            try Self.stored { () throws(StoreError) in
                try transaction.scan(.fileNotices) { key, value in
                    if let number = key.toString().flatMap({ UInt64($0, radix: 16) }), isFree(number),
                        let json = try? JSONValue.parse(value)
                    {
                        found.append(MessageFeedback(sequence: number, json: json))
                    }
                    return found.count < limit
                }
            }
            return found
        }
    }

    // MARK: - Inside a transaction

    /// Notes that an upload has begun. Those whose time is over make room.
    static func beginUpload(
        _ upload: PendingUpload, of device: String, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        _ = try require(try deviceName(device), in: transaction)
        var over: [String] = [], pending = 0
        try stored { () throws(StoreError) in
            try transaction.scan(.uploads, prefix: "\(device)\0") { key, value throws(StoreError) in
                guard let name = key.toString(), let found = PendingUpload(correlationID: "", record: value) else {
                    throw .damaged(path: "registry", reason: "an upload's record")
                }
                if found.expiry > now { pending += 1 } else { over.append(name) }
                return true
            }
        }
        guard pending < mostUploads else { throw .tooManyUploads(device: device) }
        try stored { () throws(StoreError) in
            for key in over { try transaction.delete(.uploads, key) }
            try transaction.put(.uploads, "\(device)\0\(upload.correlationID)", upload.record)
        }
    }

    /// Forgets uploads whose time is over, and tells how many: a device that never comes back leaves none behind.
    static func expireUploads(in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) -> Int {
        var over: [String] = []
        try stored { () throws(StoreError) in
            try transaction.scan(.uploads) { key, value in
                guard let name = key.toString(), let found = PendingUpload(correlationID: "", record: value) else { return true }
                if found.expiry <= now { over.append(name) }
                return over.count < 1000
            }
            for key in over { try transaction.delete(.uploads, key) }
        }
        return over.count
    }

    /// Notes that an upload has ended.
    /// - Parameter arrival: what services are to hear; nil for an upload that failed, and where nobody wants to hear of files.
    static func endUpload(
        _ correlationID: String, of device: String, _ arrival: FileArrival?, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        let upload = try pending(correlationID, of: device, in: transaction, now: now)
        try stored { () throws(StoreError) in
            try transaction.delete(.uploads, "\(device)\0\(upload.correlationID)")
            guard let arrival else { return }
            let number = try transaction.counter("filenotices") &+ 1
            try transaction.setCounter("filenotices", number)
            let notice: JSONValue = [
                "deviceId": .string(device), "blobUri": .string(arrival.uri), "blobName": .string(arrival.file),
                "lastUpdatedTime": .string(arrival.modified.description), "blobSizeInBytes": .integer(Int64(arrival.bytes)),
                "enqueuedTimeUtc": .string(now.description),
            ]
            try transaction.put(.fileNotices, noticeKey(number), notice.bytes())
            guard try transaction.count(.fileNotices) > mostFileNotices else { return }
            var oldest: String?
            try transaction.scan(.fileNotices) { key, _ in
                oldest = key.toString()
                return false
            }
            if let oldest { try transaction.delete(.fileNotices, oldest) }
        }
    }

    static func removeFileNotices(_ numbers: [UInt64], in transaction: borrowing WriteTransaction) throws(RegistryError) {
        try stored { () throws(StoreError) in
            for number in numbers { try transaction.delete(.fileNotices, noticeKey(number)) }
        }
    }

    private static func pending(
        _ correlationID: String, of device: String, in transaction: borrowing some Snapshot & ~Copyable, now: Timestamp
    ) throws(RegistryError) -> PendingUpload {
        guard PendingUpload.isCorrelationID(correlationID) else { throw .correlationInvalid }
        let found = try stored { () throws(StoreError) in
            try transaction.lend(.uploads, "\(device)\0\(correlationID)") { value throws(StoreError) in
                guard let upload = PendingUpload(correlationID: correlationID, record: value) else {
                    throw .damaged(path: "registry", reason: "an upload's record")
                }
                return upload
            }
        }
        guard let found else { throw .uploadNotFound }
        guard found.expiry > now else { throw .uploadExpired }
        return found
    }
}

private let uploadKeyName = "upload-key"

/// Sixteen digits, so that text sorts as numbers do.
private func noticeKey(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}
