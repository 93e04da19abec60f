import Registry
import Serving
import Streams
import Wire

extension HTTPAnswer {
    init(_ error: RegistryError) {
        self.init(status: error.httpStatus, errorName: error.name, message: error.message)
        if case .throttled(let milliseconds) = error { headers.add("Retry-After", String(max(1, (milliseconds + 999) / 1000))) }
    }

    /// An error as an object, which a device gets as it is (mqtt-device 12.2).
    static func detail(_ error: RegistryError) -> JSONValue { detail(code: error.code, message: error.message) }

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
}
