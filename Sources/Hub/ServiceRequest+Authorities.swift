import Registry
import Serving
import TLS
import Wire

/// The authorities under which devices have their certificates (attestation 5.1).
extension ServiceRequest {
    /// `GET /certificates`.
    func authorities() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.registryRead)
        let found = try reading { () throws(RegistryError) in try registry.authorities() }
        return HTTPAnswer(json: ["value": .array(found.map(\.json))])
    }

    /// `/certificates/{name}`.
    func authority(_ name: String) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "PUT", "DELETE")
        try authorize(head.method == "GET" ? .registryRead : .registryWrite)
        let condition = IfMatch(header: head.headers["If-Match"])
        switch head.method {
        case "GET": return Self.document(try reading { () throws(RegistryError) in try registry.authority(name) }.json)
        case "DELETE": return commit(.authority(.delete(name, condition))) { _ in HTTPAnswer(status: 204) }
        default:
            let properties = try json()["properties"] ?? .null
            let certificate = try certificate(in: properties)
            let isVerified = try reading { () throws(RegistryError) in try properties.optionalBool("isVerified") }
            return commit(.authority(.put(name, certificate, isVerified: isVerified, condition))) { Self.document($0.authority?.json) }
        }
    }

    /// `POST /certificates/{name}/generateVerificationCode` and `…/verify`.
    func authority(_ name: String, _ action: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(.registryWrite)
        let condition = IfMatch(header: head.headers["If-Match"])
        switch action {
        case "generateVerificationCode":
            return commit(.authority(.makeCode(name, condition))) { Self.document($0.authority?.jsonWithCode) }
        case "verify":
            let body = try json(), proof = try certificate(in: body["properties"] ?? body)
            return commit(.authority(.verify(name, proof: proof, condition))) { Self.document($0.authority?.json) }
        default: throw .answer(HTTPAnswer(status: 404, errorName: "NotFound", message: "no such resource"))
        }
    }

    private func certificate(in json: JSONValue) throws(Problem) -> Certificate {
        guard let text = json["certificate"]?.string else { throw .registry(.argumentNull("certificate is missing")) }
        return try reading { () throws(RegistryError) in try Authority.certificate(from: text) }
    }

    @Sendable private static func document(_ json: JSONValue?) -> HTTPAnswer {
        guard let json else { return HTTPAnswer(status: 500) }
        return HTTPAnswer(json: json, etag: json["etag"]?.string)
    }
}
