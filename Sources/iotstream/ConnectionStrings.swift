import Console
import Wire

/// The connection strings that commands print.
enum ConnectionStrings {
    /// `--hostname`, for a hub that has not run yet or has several names.
    static let hostname = Option.value("hostname", "NAME", "the hub's name in what is printed (else the hub's own first one)")

    /// The string of a device or a module, by its document.
    static func of(_ name: ClientIdentity, _ document: JSONValue, host: HostPort, secondary: Bool = false) throws(Failure) -> String {
        let credential: ConnectionString.Credential
        switch document["authentication"]?["type"]?.string {
        case "sas"?: credential = .key(try key(document["authentication"]?["symmetricKey"], secondary: secondary, of: name.clientID))
        case "selfSigned"?, "certificateAuthority"?: credential = .x509
        default: throw .refused("\(name) has no credentials", "nothing can connect in its name")
        }
        return ConnectionString(host: host, client: name, credential: credential).text
    }

    /// The string of a policy, by its document.
    static func of(policy document: JSONValue, host: HostPort, secondary: Bool = false) throws(Failure) -> String {
        let name = document["keyName"]?.string ?? ""
        return ConnectionString(host: host, policy: name, credential: .key(try key(document, secondary: secondary, of: name))).text
    }

    /// One of the two keys in a document that has them.
    static func key(_ keys: JSONValue?, secondary: Bool, of owner: String) throws(Failure) -> SymmetricKey {
        guard let key = keys?[secondary ? "secondaryKey" : "primaryKey"]?.string.flatMap({ SymmetricKey(base64: $0) }) else {
            throw .refused("\(owner) has no keys", "it proves itself in another way, or the policy may not see them")
        }
        return key
    }
}
