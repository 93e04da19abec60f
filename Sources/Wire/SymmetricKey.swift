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
        let message = Array(message)
        var code = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 32
        let made = HMAC(EVP_sha256(), bytes.baseAddress, CInt(bytes.count), message, message.count, &code, &length)
        return made == nil ? [] : code  // an empty code equals no signature
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
