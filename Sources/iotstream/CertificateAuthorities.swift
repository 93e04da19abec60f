import Console
import TLS
import Wire

/// What the commands about CAs of a hub, and those about CAs of a provisioning service, do alike.
enum CertificateAuthorities {
    /// - Parameter path: of a file with PEM, of whose certificates the first is meant, or DER.
    /// - Returns: PEM.
    static func certificate(_ path: String) throws(Failure) -> String {
        let bytes = try InputFile.read(path, limit: 1 << 20)
        do throws(CertificateError) { return try CertificateChain(bytes: bytes).leaf.pem } catch { throw .data("\(path): \(error)") }
    }

    /// Prints the documents of `GET /certificates` as a table, or as JSON where that is asked for.
    static func list(_ found: [JSONValue], _ arguments: Arguments) throws(Failure) {
        guard !arguments.wantsJSON else { return try Output.json(.array(found)) }
        try Output.table(
            ["NAME", "VERIFIED", "UNTIL", "SUBJECT"],
            found.map { authority in
                let properties = authority["properties"] ?? .null
                return [
                    authority["name"]?.string ?? "", properties["isVerified"]?.bool == true ? "yes" : "no",
                    properties["expiry"]?.string ?? "", properties["subject"]?.string ?? "",
                ]
            })
    }
}
