import LinuxIO
import Registry
import Serving
import Wire

/// Direct methods of the service API (service-rest 10).
extension ServiceRequest {
    /// `POST /twins/{id}/methods`, and a module's.
    func invokeMethod(of client: ClientIdentity) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.serviceConnect)
        try throttle(.methods, weight: MethodCall.weight(body.count))
        let document = try json()
        let request = try reading { () throws(RegistryError) in
            let request = try MethodRequest(json: document)
            _ = try registry.identity(client)
            return request
        }
        let serial = connection.serial, connection = self.connection.token
        let call = MethodCall(request, to: client, core: core) { outcome, reactor in
            (reactor.source(connection) as? HTTPConnection)?.answer(HTTPAnswer(outcome, of: request), to: serial, on: reactor)
        }
        call.begin(on: reactor)
        return nil
    }
}

extension HTTPAnswer {
    /// What a caller is told of a direct method.
    init(_ outcome: MethodCall.Outcome, of request: MethodRequest) {
        switch outcome {
        case .answered(let status, let payload):
            self.init(status: 200)
            // The device's text as it is: parsing and writing it again could only change it.
            body = Array("{\"status\":\(status),\"payload\":".utf8) + payload + Array("}".utf8)
            headers.add("Content-Type", "application/json; charset=utf-8")
        case .notOnline:
            self.init(
                code: 404103, errorName: "DeviceNotOnline", message: "Timed out waiting for device to connect.",
                timeoutSeconds: request.connectSeconds)
        case .noAnswer:
            self.init(
                code: 504101, errorName: "GatewayTimeout", message: "Timed out waiting for the response from device.",
                timeoutSeconds: request.responseSeconds)
        case .badAnswer:
            self.init(code: 502001, errorName: "BadDeviceResponse", message: "The device's response is not JSON of 128 KB at most.")
        case .tooMany:
            self.init(
                code: 403800, errorName: "DeviceMaximumActiveMethodCallsExceeded",
                message: "The device has \(DeviceQuestions.mostCalls) calls to answer, the most that it may have.")
        }
    }
}
