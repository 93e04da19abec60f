import Wire

/// The query of a link to a device's file, in the form of the storage service:
/// `?sv=2020-10-02&sr=b&se={ISO 8601}&sp=rw&sig={Base64}`. Clients keep these names and drop others.
///
/// The signature is an HMAC-SHA256 with a key of the hub's own, over five lines: a word that says what is signed, `sp`, `se`, the file as
/// `{container}/{deviceId}/{path}`, and the generation of the device. So a link is good for one file of one device, until its time is
/// over or the device is gone, and for nothing else.
package struct UploadLink: Equatable, Sendable {
    /// The first segment of the path. No resource of the service API is called so.
    package static let container = "iotstream-uploads"
    /// Seconds for which a link is good, and after which its upload is no longer pending (mqtt-device 15).
    package static let seconds: Int64 = 3600

    private static let version = "2020-10-02"

    private let expiry: Timestamp
    private let writtenExpiry: String
    private let rights: String
    private let signature: [UInt8]

    /// Reads the items of a query; nil when they are no link.
    package init?(query items: [(name: String, value: String)]) {
        func only(_ name: String) -> String? {
            let found = items.filter { $0.name == name }
            return found.count == 1 ? found[0].value : nil
        }
        guard only("sv") != nil, only("sr") == "b", let rights = only("sp"), let writtenExpiry = only("se"),
            let expiry = Timestamp(parsing: writtenExpiry), let signature = only("sig").flatMap({ Base64.decode($0) })
        else { return nil }
        self.expiry = expiry
        self.writtenExpiry = writtenExpiry
        self.rights = rights
        self.signature = signature
    }

    /// Whether this key made the link for this file. Takes the same time whatever the signature is.
    /// - Parameters:
    ///   - file: `{deviceId}/{path}`, not encoded.
    ///   - generation: of the device.
    package func isSigned(for file: String, generation: String, by key: SymmetricKey) -> Bool {
        equalInConstantTime(key.authenticate(Self.signed(rights, writtenExpiry, file, generation).utf8), signature)
    }

    package func isOver(at now: Timestamp) -> Bool { now >= expiry }
    package var mayRead: Bool { rights.utf8.contains(UInt8(ascii: "r")) }
    package var mayWrite: Bool { rights.utf8.contains(UInt8(ascii: "w")) }

    /// A new link's query with its question mark.
    package static func query(
        for file: String, generation: String, rights: String = "rw", expiry: Timestamp, key: SymmetricKey
    ) -> String {
        let end = Timestamp(seconds: expiry.seconds).description
        let signature = Base64.encode(key.authenticate(signed(rights, end, file, generation).utf8))
        func encoded(_ text: String) -> String { PercentCoding.encode(text, leaving: .unreserved) }
        return "?sv=\(version)&sr=b&se=\(encoded(end))&sp=\(rights)&sig=\(encoded(signature))"
    }

    private static func signed(_ rights: String, _ expiry: String, _ file: String, _ generation: String) -> String {
        "iotstream file upload\n\(rights)\n\(expiry)\n\(container)/\(file)\n\(generation)"
    }
}
