import Bytes
import LinuxIO
import Wire

/// An answer to a request, still without the fields that every answer has.
public struct HTTPAnswer: Sendable {
    package var status: Int
    package var headers = HTTPHeaders()
    package var body: [UInt8] = []
    /// What goes out instead of `body`, a piece at a time.
    package var part: (any AnswerPart)?

    package init(status: Int) { self.status = status }

    package init(status: Int = 200, json: JSONValue, etag: String? = nil) {
        self.status = status
        body = json.bytes()
        headers.add("Content-Type", "application/json; charset=utf-8")
        if let etag { headers.add("ETag", "\"\(etag)\"") }
    }

    /// The classic form of an error (service-rest 3).
    package init(status: Int, errorName: String, message: String) {
        let now = Timestamp.now
        self.init(
            status: status,
            json: [
                "Message": .string("ErrorCode:\(errorName);\(message)"),
                "ExceptionMessage": .string("Tracking ID:\(Self.trackingID())-TimeStamp:\(now)"),
            ])
        headers.add("iothub-errorcode", errorName)
    }

    /// The structured form: `Message` is itself JSON text (device-streams 3.5).
    package init(code: Int, errorName: String, message: String, timeoutSeconds: Int? = nil) {
        let inner = Self.detail(code: code, message: message, info: timeoutSeconds.map { ["timeout": .string(Self.clock($0))] })
        self.init(status: code / 1000, json: ["Message": .string(inner.text()), "ExceptionMessage": ""])
        headers.add("iothub-errorcode", errorName)
    }

    package static func detail(code: Int, message: String, info: JSONValue? = nil) -> JSONValue {
        let now = Timestamp.now.description
        var detail: JSONValue = [
            "errorCode": .integer(Int64(code)), "trackingId": .string("\(trackingID())-TimeStamp:\(now)"), "message": .string(message),
        ]
        if let info { detail["info"] = info }
        detail["timestampUtc"] = .string(now)
        return detail
    }

    private static func trackingID() -> String { "\(Hex.encode([UInt8].random(count: 16)))-G:0" }

    /// `hh:mm:ss`.
    private static func clock(_ seconds: Int) -> String {
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(two(seconds / 3600)):\(two(seconds / 60 % 60)):\(two(seconds % 60))"
    }
}

/// The body of an answer that goes out a piece at a time, as the client takes it.
package protocol AnswerPart: Sendable {
    /// Its length in bytes.
    var count: Int { get }
    /// Begins to send it; `proceed` is called next.
    func sending() -> any AnswerSending
}

/// A body on its way out. It sends itself on the connection and calls its `sent` after each piece.
package protocol AnswerSending: AnyObject {
    /// Whether everything was handed to the connection.
    var isDone: Bool { get }
    /// Sends the next piece, unless the connection has enough to send.
    func proceed(_ connection: HTTPConnection, _ reactor: Reactor)
}
