import Bytes
import COpenSSL

/// A shared secret of 16 to 64 bytes (attestation 2), wiped when its last holder lets go. Never prints itself; two keys are
/// compared in constant time.
package final class SymmetricKey: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
    /// Lengths that a key may have, in bytes.
    package static let lengths = 16...64

    // Written only in init and deinit, so reading from several threads is safe.
    private nonisolated(unsafe) let bytes: UnsafeMutableRawBufferPointer

    /// A key of these bytes; nil when the length is out of range.
    package init?(_ secret: RawSpan) {
        guard Self.lengths.contains(secret.byteCount) else { return nil }
        bytes = .allocate(byteCount: secret.byteCount, alignment: 1)
        secret.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }

    /// The key behind its Base64; nil when that is malformed or the length is out of range.
    package convenience init?(base64: some StringProtocol) {
        guard var secret = Base64.decode(base64) else { return nil }
        defer { secret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        self.init(secret.span.bytes)
    }

    /// A new random key of `count` bytes; nil when the length is out of range or the system has no randomness to give.
    package static func random(count: Int = 32) -> SymmetricKey? {
        guard lengths.contains(count) else { return nil }
        var secret = [UInt8](repeating: 0, count: count)
        defer { secret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        guard RAND_priv_bytes(&secret, CInt(count)) == 1 else { return nil }
        return SymmetricKey(secret.span.bytes)
    }

    deinit {
        OPENSSL_cleanse(bytes.baseAddress, bytes.count)
        bytes.deallocate()
    }

    /// The secret itself as Base64: for the store and for connection strings, nowhere else.
    package var base64: String { Base64.encode(UnsafeRawBufferPointer(bytes)) }

    /// HMAC-SHA256 of the message under this key: 32 bytes.
    package func authenticate(_ message: some Sequence<UInt8>) -> [UInt8] {
        // RFC 2104, since OpenSSL's own HMAC looks its algorithms up by name each time. No key is longer than a block.
        let message = Array(message)
        var inner = padded(with: 0x36, before: message.count), outer = padded(with: 0x5C, before: 32)
        defer {
            inner.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
            outer.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
        }
        inner += message
        outer += Self.digest(inner)
        return outer.count == Self.blockBytes ? [] : Self.digest(outer)  // an empty code equals no signature
    }

    private static let blockBytes = 64

    /// With room for what follows, so that no copy stays behind.
    private func padded(with byte: UInt8, before count: Int) -> [UInt8] {
        var block: [UInt8] = []
        block.reserveCapacity(Self.blockBytes + count)
        block.append(contentsOf: repeatElement(byte, count: Self.blockBytes))
        for (index, secret) in bytes.enumerated() { block[index] ^= secret }
        return block
    }

    /// Never changed once it is there.
    private nonisolated(unsafe) static let sha256 = EVP_MD_fetch(nil, "SHA256", nil)

    private static func digest(_ message: [UInt8]) -> [UInt8] {
        var code = [UInt8](repeating: 0, count: 32)
        return EVP_Digest(message, message.count, &code, nil, sha256, nil) == 1 ? code : []
    }

    package static func == (one: SymmetricKey, other: SymmetricKey) -> Bool {
        one.bytes.count == other.bytes.count && CRYPTO_memcmp(one.bytes.baseAddress, other.bytes.baseAddress, one.bytes.count) == 0
    }

    package var description: String { "SymmetricKey(redacted)" }
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// Compares two byte strings in time that depends on their lengths alone.
package func equalInConstantTime(_ one: [UInt8], _ other: [UInt8]) -> Bool {
    one.count == other.count && CRYPTO_memcmp(one, other, one.count) == 0
}
