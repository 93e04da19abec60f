import Bytes
import CLinux

/// CRC-32C over any number of pieces.
package struct Checksum: Equatable, Sendable {
    /// Of everything added so far; 0 of nothing.
    package private(set) var value: UInt32 = 0

    package init() {}

    /// Goes on with `bytes`.
    package mutating func add(_ bytes: RawSpan) {
        value = bytes.withUnsafeBytes { clx_crc32c(value, $0.baseAddress, $0.count) }
    }

    /// Goes on with the eight bytes of a number, the most significant first.
    package mutating func add(_ number: UInt64) {
        value = withUnsafeBytes(of: number.bigEndian) { clx_crc32c(value, $0.baseAddress, $0.count) }
    }

    /// The checksum of one piece.
    package static func of(_ bytes: RawSpan) -> UInt32 {
        var sum = Checksum()
        sum.add(bytes)
        return sum.value
    }
}
