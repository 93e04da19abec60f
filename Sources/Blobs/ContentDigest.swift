import Bytes
import COpenSSL

/// What a client sends along to have its bytes checked, worked out while they come.
package struct ContentDigest: ~Copyable, Sendable {
    package enum Kind: Sendable {
        /// `Content-MD5`: 16 bytes.
        case md5
        /// `x-ms-content-crc64`: 8 bytes, least significant first.
        case crc64
    }

    private let context: MD5?
    private var crc: CRC64?
    private let wanted: [(kind: Kind, value: [UInt8])]

    /// - Parameter wanted: what the client says; only that is worked out.
    package init(_ wanted: [(kind: Kind, value: [UInt8])]) {
        self.wanted = wanted
        context = wanted.contains { $0.kind == .md5 } ? MD5() : nil
        crc = wanted.contains { $0.kind == .crc64 } ? CRC64() : nil
    }

    package mutating func update(_ bytes: RawSpan) {
        context?.update(bytes)
        crc?.update(bytes)
    }

    /// Compares with what was wanted.
    package mutating func check() throws(BlobError) {
        for (kind, value) in wanted {
            let found: [UInt8]? = kind == .md5 ? context?.finish() : crc?.bytes
            guard found == value else { throw .digestDiffers(kind) }
        }
    }
}

/// MD5 of bytes that come in pieces: what the storage protocol asks for, no protection against anybody.
///
/// Unchecked Sendable: used by one thread after the other, as its owner is.
package final class MD5: @unchecked Sendable {
    private let context: OpaquePointer?

    package init() {
        context = EVP_MD_CTX_new()
        EVP_DigestInit_ex(context, EVP_md5(), nil)
    }

    deinit { EVP_MD_CTX_free(context) }

    package func update(_ bytes: RawSpan) {
        bytes.withUnsafeBytes { _ = EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
    }

    /// The 16 bytes; nothing may be added afterwards.
    package func finish() -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 16)
        EVP_DigestFinal_ex(context, &digest, nil)
        return digest
    }
}

/// The 64-bit checksum of the storage protocol: polynomial 0x9A6C9329AC4BC9B5, reflected, begun and ended with all bits inverted.
package struct CRC64: Sendable {
    private var state = UInt64.max

    package init() {}

    package var value: UInt64 { ~state }
    /// As the protocol carries it: least significant byte first.
    package var bytes: [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }

    /// Eight tables: the remainder of a byte that is followed by zero to seven more.
    private static let tables: [UInt64] = {
        var tables = [UInt64](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var value = UInt64(byte)
            for _ in 0..<8 { value = value >> 1 ^ (value & 1 == 1 ? 0x9A6C_9329_AC4B_C9B5 : 0) }
            tables[byte] = value
        }
        for index in 256..<tables.count {
            let before = tables[index - 256]
            tables[index] = before >> 8 ^ tables[Int(before & 255)]
        }
        return tables
    }()

    package mutating func update(_ bytes: RawSpan) {
        var state = self.state
        Self.tables.withUnsafeBufferPointer { tables in
            var index = 0
            while bytes.byteCount - index >= 8 {
                let word = state ^ UInt64(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self))
                state = 0
                for place in 0..<8 { state ^= tables[(7 - place) * 256 + Int(word >> UInt64(8 * place) & 255)] }
                index += 8
            }
            while index < bytes.byteCount {
                state = state >> 8 ^ tables[Int((state ^ UInt64(bytes.byte(at: index))) & 255)]
                index += 1
            }
        }
        self.state = state
    }
}
