import Bytes
import Registry
import Streams
import Wire

/// An answer of the service API, still without the fields that every answer has.
struct HTTPAnswer: Sendable {
    var status: Int
    var headers = HTTPHeaders()
    var body: [UInt8] = []
    /// A part of a file that goes out instead of `body`.
    var part: BlobPart?

    init(status: Int) { self.status = status }

    init(status: Int = 200, json: JSONValue, etag: String? = nil) {
        self.status = status
        body = json.bytes()
        headers.add("Content-Type", "application/json; charset=utf-8")
        if let etag { headers.add("ETag", "\"\(etag)\"") }
    }

    /// The classic form of an error (service-rest 3).
    init(status: Int, errorName: String, message: String) {
        let now = Timestamp.now
        self.init(
            status: status,
            json: [
                "Message": .string("ErrorCode:\(errorName);\(message)"),
                "ExceptionMessage": .string("Tracking ID:\(Self.trackingID())-TimeStamp:\(now)"),
            ])
        headers.add("iothub-errorcode", errorName)
    }

    init(_ error: RegistryError) { self.init(status: error.httpStatus, errorName: error.name, message: error.message) }

    /// The structured form: `Message` is itself JSON text (device-streams 3.5).
    init(code: Int, errorName: String, message: String, timeoutSeconds: Int? = nil) {
        let inner = Self.detail(code: code, message: message, info: timeoutSeconds.map { ["timeout": .string(Self.clock($0))] })
        self.init(status: code / 1000, json: ["Message": .string(inner.text()), "ExceptionMessage": ""])
        headers.add("iothub-errorcode", errorName)
    }

    /// An error as an object, which a device gets as it is (mqtt-device 12.2).
    static func detail(_ error: RegistryError) -> JSONValue { detail(code: error.code, message: error.message) }

    private static func detail(code: Int, message: String, info: JSONValue? = nil) -> JSONValue {
        let now = Timestamp.now.description
        var detail: JSONValue = [
            "errorCode": .integer(Int64(code)), "trackingId": .string("\(trackingID())-TimeStamp:\(now)"), "message": .string(message),
        ]
        if let info { detail["info"] = info }
        detail["timestampUtc"] = .string(now)
        return detail
    }

    /// What the service is told of a stream's beginning.
    init(_ verdict: StreamSession.Verdict, acceptance: HTTPHeaders, patience: StreamSession.Patience) {
        switch verdict {
        case .accepted:
            self.init(status: 200)
            headers = acceptance
        case .rejected(let reason):
            self.init(status: 200)
            headers.add("iothub-streaming-is-accepted", "False")
            if let reason, !reason.isEmpty { headers.add("iotstream-reason", String(reason.prefix(200))) }
        case .deviceNotOnline:
            self.init(
                code: 404103, errorName: "DeviceNotOnline",
                message: "The operation failed because the requested device isn't online or hasn't registered for device streams.",
                timeoutSeconds: Int(patience.connect / 1000))
        case .noAnswer:
            self.init(
                code: 504101, errorName: "GatewayTimeout", message: "Timed out waiting for the response from device.",
                timeoutSeconds: Int(patience.response / 1000))
        case .deviceGone: self.init(code: 404001, errorName: "DeviceNotFound", message: "Device unavailable")
        }
    }

    private static func trackingID() -> String { "\(Hex.encode([UInt8].random(count: 16)))-G:0" }

    /// `hh:mm:ss`.
    private static func clock(_ seconds: Int) -> String {
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(two(seconds / 3600)):\(two(seconds / 60 % 60)):\(two(seconds % 60))"
    }
}
