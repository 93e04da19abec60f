import Bytes
import Store
import Wire

/// Why the provisioning service refuses something (dps 6.3).
package enum EnrollmentError: Error, Equatable, Sendable {
    /// `code` has six digits: the HTTP status and three more.
    case refused(code: Int, String)
    /// The files failed, not the request.
    case store(StoreError)

    /// A request that says something impossible; the text tells a person what.
    package static func invalid(_ text: String) -> Self { .refused(code: 400004, text) }
    package static let unauthorized = Self.refused(code: 401002, "Unauthorized")
    static func notFound(_ text: String) -> Self { .refused(code: 404201, text) }
    static func conflict(_ text: String) -> Self { .refused(code: 409201, text) }
    static let preconditionFailed = Self.refused(code: 412201, "the etag differs: somebody else changed it meanwhile")

    /// Six digits: the HTTP status and three more.
    package var code: Int {
        switch self {
        case .refused(let code, _): code
        case .store(.diskFull), .store(.mapFull): 503001
        case .store: 500001
        }
    }

    /// The status of the answer over HTTP and MQTT.
    package var status: Int { code / 1000 }

    /// What was wrong, for a person; paths of files only in `description`.
    package var message: String {
        switch self {
        case .refused(_, let text): text
        case .store(.diskFull), .store(.mapFull): "the service has no room left"
        case .store: "the service could not reach its store"
        }
    }

    /// The document that devices and services get.
    package var json: JSONValue {
        [
            "errorCode": .integer(Int64(code)), "trackingId": .string(Hex.encode([UInt8].random(count: 16))), "message": .string(message),
            "info": [:], "timestampUtc": .string(Timestamp.now.description),
        ]
    }
}

extension EnrollmentError: StoreFailure, CustomStringConvertible {
    package init(store error: StoreError) { self = .store(error) }

    package var description: String {
        if case .store(let error) = self { error.description } else { message }
    }
}

extension IfMatch {
    /// Refuses when the record that exists is not the one that was meant.
    func check(_ etag: String) throws(EnrollmentError) {
        if case .etag(let wanted) = self, wanted != etag { throw .preconditionFailed }
    }
}

/// Runs something of the store's with its errors as ours.
func stored<Output>(_ body: () throws(StoreError) -> Output) throws(EnrollmentError) -> Output {
    do throws(StoreError) { return try body() } catch { throw .store(error) }
}
