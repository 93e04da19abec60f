import COpenSSL

/// What an end-to-end session is for, as its two ends name it to one another (ALPN): a hub that joins the request for one stream with
/// the legs of another is found out.
package enum StreamPurpose {
    /// `iotstream/` and 32 hexadecimal digits, the first half of SHA-256 over device[`/`module], a zero byte and the stream's name.
    package static func protocolName(of client: ClientIdentity, stream name: String) -> String {
        let input = Array("\(client)\0\(name)".utf8)
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        SHA256(input, input.count, &digest)
        return "iotstream/" + Hex.encode(digest[..<16])
    }
}
