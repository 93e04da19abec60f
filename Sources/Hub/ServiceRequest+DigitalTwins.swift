import LinuxIO
import Registry
import Serving
import Wire

/// Plug and play (service-rest 16), a view over twins and direct methods.
extension ServiceRequest {
    /// `GET` and `PATCH /digitaltwins/{id}`.
    func digitalTwin(_ device: String) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "PATCH")
        try authorize(.serviceConnect, head.method == "GET" ? .twinReads : .twinUpdates)
        let name = try name(device)
        let document = try reading { () throws(RegistryError) in try registry.twin(name) }
        let digital = DigitalTwin(document)
        guard head.method == "PATCH" else { return HTTPAnswer(json: digital.json, etag: document.twin.etag) }
        let patch = try json()
        let change = try reading { () throws(RegistryError) in try digital.change(patch) }
        let location = "https://\(core.authority(of: head))\(head.path)"
        return commit(.changeTwin(name, change, IfMatch(header: head.headers["If-Match"]))) { outcome in
            guard let twin = outcome.twin else { return HTTPAnswer(status: 500) }
            var answer = HTTPAnswer(status: 202)
            answer.headers.add("ETag", "\"\(twin.twin.etag)\"")
            answer.headers.add("Location", location)
            return answer
        }
    }

    /// `POST /digitaltwins/{id}/commands/{command}`, and a component's: the answer is the device's own.
    func digitalTwinCommand(_ device: String, component: String?, _ command: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.serviceConnect)
        try throttle(.methods, weight: MethodCall.weight(body.count))
        let name = try name(device)
        let payload = body.isEmpty ? JSONValue.null : try json()
        func seconds(_ item: String, otherwise usual: Int) throws(Problem) -> Int {
            guard let text = head.queryValue(item), !text.isEmpty else { return usual }
            guard let number = Int(text) else { throw .registry(.argumentInvalid("\(item) is no number")) }
            return number
        }
        let connectSeconds = try seconds("connectTimeoutInSeconds", otherwise: 0)
        let responseSeconds = try seconds("responseTimeoutInSeconds", otherwise: 30)
        let request = try reading { () throws(RegistryError) in
            let request = try MethodRequest(
                name: DigitalTwin.method(component: component, command: command), payload: payload, connectSeconds: connectSeconds,
                responseSeconds: responseSeconds)
            _ = try registry.identity(name)
            return request
        }
        let serial = connection.serial, connection = self.connection.token
        MethodCall(request, to: name, core: core) { outcome, reactor in
            var answer = HTTPAnswer(outcome, of: request)
            if case .answered(let status, let payload) = outcome {
                answer.body = payload
                answer.headers.add("x-ms-command-statuscode", String(status))
            }
            (reactor.source(connection) as? HTTPConnection)?.answer(answer, to: serial, on: reactor)
        }.begin(on: reactor)
        return nil
    }
}
