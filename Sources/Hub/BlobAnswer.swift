import Blobs
import LinuxIO
import Registry
import Serving
import Wire

/// A part of a file that goes out as the body of an answer.
struct BlobPart: AnswerPart {
    let file: BlobReading
    let range: Range<Int>
    let place: UploadPlace

    var count: Int { range.count }
    func sending() -> any AnswerSending { BlobSending(self, at: place.desk) }
}

/// Answers in the storage service's form: errors are XML, and their names stand in `x-ms-error-code`.
enum BlobAnswer {
    /// The version of the protocol that is spoken where a client names none.
    private static let version = "2020-10-02"

    static func error(_ status: Int, _ code: String, _ message: String) -> HTTPAnswer {
        var answer = HTTPAnswer(status: status)
        answer.headers.add("x-ms-error-code", code)
        answer.headers.add("Content-Type", "application/xml")
        answer.body = Array(
            """
            <?xml version="1.0" encoding="utf-8"?><Error><Code>\(code)</Code><Message>\(message)
            Time:\(Timestamp.now)</Message></Error>
            """.utf8)
        return answer
    }

    static let forbidden = error(403, "AuthenticationFailed", "The link's signature is wrong, or its time is over.")

    static func error(_ error: BlobError) -> HTTPAnswer {
        switch error {
        case .notReady: return busy("The hub counts its files.")
        case .fileTooLarge(let limit): return Self.error(413, "RequestBodyTooLarge", "A file has at most \(limit) bytes.")
        case .deviceFull(let limit):
            return Self.error(413, "DeviceQuotaExceeded", "The files of this device have at most \(limit) bytes together.")
        case .hubFull: return Self.error(507, "InsufficientStorage", "The hub has no room left for files.")
        case .nameTaken:
            return Self.error(409, "ResourceTypeMismatch", "A part of the name is a file where a directory is meant, or a directory.")
        case .exists: return Self.error(409, "BlobAlreadyExists", "The specified blob already exists.")
        case .notFound: return Self.error(404, "BlobNotFound", "The specified blob does not exist.")
        case .conditionFailed:
            return Self.error(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
        case .digestDiffers(.md5): return Self.error(400, "Md5Mismatch", "The MD5 value specified in the request did not match what came.")
        case .digestDiffers(.crc64):
            return Self.error(400, "Crc64Mismatch", "The CRC64 value specified in the request did not match what came.")
        case .noSuchBlock: return Self.error(400, "InvalidBlockList", "The specified block list is invalid.")
        case .system: return Self.error(500, "InternalError", "The hub could not reach its files.")
        }
    }

    /// To a body that is none, is too long, or comes too slowly.
    static func refusal(_ status: Int, _ reason: String, of head: HTTPRequestHead) -> HTTPAnswer {
        let code =
            switch status {
            case 408: "OperationTimedOut"
            case 413: "RequestBodyTooLarge"
            default: "InvalidInput"
            }
        return complete(error(status, code, reason), to: head)
    }

    static func busy(_ message: String) -> HTTPAnswer {
        var answer = error(503, "ServerBusy", message)
        answer.headers.add("Retry-After", "2")
        return answer
    }

    /// A file or a block was taken.
    static func created(_ properties: BlobProperties?, echoing head: HTTPRequestHead) -> HTTPAnswer {
        var answer = HTTPAnswer(status: 201)
        if let properties { describe(properties, in: &answer.headers) }
        answer.headers.add("x-ms-request-server-encrypted", "false")
        for name in ["Content-MD5", "x-ms-content-crc64"] {
            if let value = head.headers[name] { answer.headers.add(name, value) }
        }
        return answer
    }

    static func describe(_ properties: BlobProperties, in headers: inout HTTPHeaders) {
        headers.add("ETag", properties.etag)
        headers.add("Last-Modified", HTTPDate.text(properties.modifiedSeconds))
    }

    /// Adds what every answer to a request has.
    static func complete(_ answer: HTTPAnswer, to head: HTTPRequestHead) -> HTTPAnswer {
        var answer = answer
        answer.headers.add("x-ms-version", head.headers["x-ms-version"] ?? version)
        if let id = head.headers["x-ms-client-request-id"], id.utf8.count <= 1024 { answer.headers.add("x-ms-client-request-id", id) }
        return answer
    }
}
