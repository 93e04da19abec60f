import Console
import Dialing
import Trust
import Wire

/// What was said about a provisioning service, before it is known whether there is a certificate.
struct ProvisioningWords: Sendable {
    var endpoint: HostPort
    var scope: String
    /// Nil: the common name of the certificate.
    var id: String?
    var key: SymmetricKey?

    /// Nil as long as the registration id is to come from the certificate.
    var name: RegistrationName? { id.map { RegistrationName(endpoint: endpoint, scope: scope, id: $0) } }
}

extension AgentSettings {
    /// Reads the options, or the file's keys, that say which registration this is.
    /// - Parameter wrong: makes an error of a key and a reason.
    static func registration(
        _ arguments: Arguments, _ top: Configuration.Section?, wrong: (String, String) -> Failure
    ) throws(Failure) -> ProvisioningWords {
        func text(_ name: String) -> String? { arguments.text(name) ?? top?.text(name) }
        for other in ["connection-string", "connection-string-file"] where text(other) != nil {
            throw .usage("--provision and --\(other) exclude each other", "the provisioning service says which hub it is")
        }
        guard let endpoint = text("provision").flatMap({ HostPort(parsing: $0) }) else {
            throw wrong("provision", "not a host or host:port")
        }
        guard let scope = text("id-scope") else { throw .usage("no id scope", "name that of the provisioning service with --id-scope") }
        guard Identifier.isValidScope(scope) else { throw wrong("id-scope", "takes letters and digits") }
        let id = text("registration-id"), path = text("key-file"), hasCertificate = text("cert") != nil
        if let id, !Identifier.isValidRegistrationID(id) {
            throw wrong("registration-id", "takes 1 to 128 letters, digits and - . _ :, a letter, digit or - at its end")
        }
        guard path == nil || !hasCertificate else { throw .usage("--key-file and --cert exclude each other") }
        guard path != nil || hasCertificate else {
            throw .usage("nothing proves who the device is", "name its key with --key-file, or its certificate with --cert and --key")
        }
        guard id != nil || hasCertificate else { throw .usage("no registration id", "name it with --registration-id") }
        var words = ProvisioningWords(endpoint: endpoint, scope: scope, id: id)
        if let path {
            guard let key = SymmetricKey(base64: try SecretFile.line(path)) else {
                throw .data("\(path): not a device key", "it holds the Base64 of 16 to 64 bytes, as the enrollment has it")
            }
            words.key = key
        }
        return words
    }

    static func provisioning(
        _ words: ProvisioningWords, _ trust: AgentTrust, _ certificate: String?, _ access: HubAccess, _ arguments: Arguments,
        _ top: Configuration.Section?
    ) throws(Failure) -> ProvisioningSettings {
        let identity = trust.identity, name = identity.current.identity.chain.leaf.commonName
        guard let id = words.id ?? name, Identifier.isValidRegistrationID(id) else {
            throw .data("\(certificate ?? "the certificate"): its common name is no registration id", "name it with --registration-id")
        }
        if certificate != nil, let name, name.lowercased() != id.lowercased() {
            throw .data("the certificate is \(name)'s, not \(id)'s", "the common name has to be the registration id")
        }
        guard let state = arguments.agentStateDirectory(configured: top?.text("state")) else {
            throw .config("no place for the assignment", "name one with --state DIR")
        }
        return ProvisioningSettings(
            name: RegistrationName(endpoint: words.endpoint, scope: words.scope, id: id), key: words.key, access: access,
            thumbprint: { certificate == nil ? nil : identity.current.identity.chain.leaf.sha256Thumbprint },
            path: "\(state)/assignment.json")
    }
}
