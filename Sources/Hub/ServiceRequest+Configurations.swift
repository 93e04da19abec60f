import Registry
import Serving
import Wire

/// Automatic device management (service-rest 13). Whoever may write the registry may, and whoever may write twins.
extension ServiceRequest {
    private static let rights: Rights = [.registryWrite, .serviceConnect]
    private static let usualCount = 20

    /// `GET /configurations?top=`.
    func configurations() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(Self.rights, .configurations)
        let top = head.queryValue("top").flatMap { Int($0) } ?? Self.usualCount
        let found = try reading { () throws(RegistryError) in try registry.configurations().live }.sorted { $0.id < $1.id }
        let count = (1...Registry.mostConfigurations).contains(top) ? top : Self.usualCount
        return HTTPAnswer(json: .array(found.prefix(count).map(\.json)))
    }

    /// `/configurations/{id}`, and `POST /configurations/testQueries`, whose name no configuration can have.
    func configuration(_ id: String) throws(Problem) -> HTTPAnswer? {
        if id == "testQueries" { return try testQueries() }
        try methods("GET", "PUT", "DELETE")
        try authorize(Self.rights, .configurations)
        let condition = IfMatch(header: head.headers["If-Match"])
        switch head.method {
        case "GET":
            return Self.document(try reading { () throws(RegistryError) in try registry.configuration(id) })
        case "PUT":
            let document = try json()
            let request = try reading { () throws(RegistryError) in try TwinConfiguration(request: document, id: id, now: .now) }
            return commit(.configuration(.put(request, condition))) { outcome in
                outcome.configuration.map { Self.document($0) } ?? HTTPAnswer(status: 500)
            }
        default:
            return commit(.configuration(.delete(id, condition))) { _ in HTTPAnswer(status: 204) }
        }
    }

    @Sendable private static func document(_ configuration: TwinConfiguration) -> HTTPAnswer {
        HTTPAnswer(json: configuration.json, etag: configuration.etag)
    }

    private func testQueries() throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(Self.rights, .configurations)
        let body = try json()
        guard body.object != nil else { throw .registry(.argumentInvalid("the body is not an object")) }
        var errors = JSONObject()
        for (name, query) in body["customMetricQueries"]?.object ?? JSONObject() {
            if let fault = TwinConfiguration.fault(ofMetric: query.string ?? "") { errors[name] = .string(fault) }
        }
        let fault = body["targetCondition"]?.string.flatMap { TwinConfiguration.fault(ofCondition: $0) }
        return HTTPAnswer(json: ["targetConditionError": .string(fault ?? ""), "customMetricQueryErrors": .object(errors)])
    }

    /// `POST /devices/{id}/applyConfigurationContent`.
    func applyContent(to device: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(Self.rights, .configurations)
        let document = try json()
        let content = try reading { () throws(RegistryError) in try AppliedContent(json: document) }
        return commit(.configuration(.apply(content, device: device))) { _ in HTTPAnswer(status: 204) }
    }
}
