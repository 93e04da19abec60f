import Console
import Registry
import Wire

// Authorities for devices' certificates, on the state directory or over REST.

extension Administration {
    func authorities() throws(Failure) -> [JSONValue] {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in try registry.authorities().map(\.json) }
        case .service(let client): try client.get(["certificates"])["value"]?.array ?? []
        }
    }

    func authority(_ name: String) throws(Failure) -> JSONValue {
        switch self {
        case .state(let registry): try asking { () throws(RegistryError) in try registry.authority(name).json }
        case .service(let client): try client.get(["certificates", name])
        }
    }

    /// - Parameters:
    ///   - certificate: PEM, or DER in Base64.
    ///   - etag: nil: there must be none of this name yet.
    func putAuthority(_ name: String, _ certificate: String, isVerified: Bool?, etag: String?) throws(Failure) -> JSONValue {
        switch self {
        case .state:
            return try perform { () throws(RegistryError) in
                .put(name, try Authority.certificate(from: certificate), isVerified: isVerified, IfMatch(header: etag))
            }.json
        case .service(let client):
            var properties: JSONValue = ["certificate": .string(certificate)]
            if let isVerified { properties["isVerified"] = .bool(isVerified) }
            return try client.send("PUT", ["certificates", name], ["properties": properties], ifMatch: etag)
        }
    }

    /// The document with a new verification code.
    func makeCode(of name: String) throws(Failure) -> JSONValue {
        switch self {
        case .state: try perform { () throws(RegistryError) in .makeCode(name, .any) }.jsonWithCode
        case .service(let client):
            try client.send("POST", ["certificates", name, "generateVerificationCode"], nil, ifMatch: "*")
        }
    }

    func verifyAuthority(_ name: String, proof: String) throws(Failure) -> JSONValue {
        switch self {
        case .state:
            try perform { () throws(RegistryError) in .verify(name, proof: try Authority.certificate(from: proof), .any) }.json
        case .service(let client):
            try client.send("POST", ["certificates", name, "verify"], ["certificate": .string(proof)], ifMatch: "*")
        }
    }

    func deleteAuthority(_ name: String) throws(Failure) {
        switch self {
        case .state(let registry):
            try asking { () throws(RegistryError) in _ = try registry.order(.authority(.delete(name, .any))) }
        case .service(let client): _ = try client.send("DELETE", ["certificates", name], nil, ifMatch: "*")
        }
    }

    private func perform(_ command: () throws(RegistryError) -> AuthorityCommand) throws(Failure) -> Authority {
        guard case .state(let registry) = self else { throw .software("no state directory") }
        let outcome = try asking { () throws(RegistryError) in try registry.order(.authority(try command())) }
        guard let authority = outcome.authority else { throw .software("no authority came of it") }
        return authority
    }
}
