import CLinux
import COpenSSL

/// What the Linux kernel needs to seal a session's records in OpenSSL's place (its Documentation/networking/tls.rst).
///
/// A socket that the kernel seals does not come back to raw bytes, and OpenSSL would hand over its key in the handshake, before anybody
/// knows what will become of the connection. So it is told no, goes on by itself, and what it wanted to hand over is kept here; the records
/// that it makes are counted. With both, the kernel can take over between any two records.
package struct KernelSealing {
    /// Whether this kernel can: whether its module `tls` is there, which a program without rights does not load. Looked at once.
    package static let isOffered = clx_kernel_tls_offered() == 1

    /// Whether the kernel has taken over; for good.
    private(set) var isOn = false
    private var key: KernelKey?
    private var records: UInt64 = 0

    /// OpenSSL has set its key, as in `KernelKey`, for what is sent from here on.
    mutating func keySet(_ bytes: UnsafeRawPointer) {
        key?.wipe()
        key = KernelKey(bytes)
        records = 0
    }

    /// OpenSSL has sealed a record.
    mutating func recordSealed() { records &+= 1 }

    /// The kernel will not take over: OpenSSL has changed its key in a way that is not shown, or the connection is over.
    mutating func giveUp() {
        key?.wipe()
        key = nil
    }

    /// The key with the number of the next record.
    func nextKey() -> KernelKey? {
        var next = key
        next?.advance(by: records)
        return next
    }

    /// Has the kernel take over on `socket`, all of whose records have gone out; once, whatever comes of it.
    mutating func begin(on socket: CInt) {
        guard var next = nextKey() else { return }
        giveUp()
        isOn = next.bytes.withUnsafeBytes { clx_kernel_tls_start(socket, $0.baseAddress, $0.count) } >= 0
        next.wipe()
    }
}

/// A sending key in the kernel's shape, `struct tls12_crypto_info_…` of linux/tls.h, in which OpenSSL has it as well:
///
///     0        2       4       12 or 16       28 to 48  32 to 52        40 or 56
///     | version | cipher | IV     | key          | salt      | record number  |
///       little-endian      8, 12    16, 32         4, 0        8, big-endian
struct KernelKey {
    private(set) var bytes: [UInt8]
    private let countsInIV: Bool

    /// Copies it; nil when it is of a cipher or version that is not known here.
    init?(_ raw: UnsafeRawPointer) {
        let version = raw.loadUnaligned(as: UInt16.self), cipher = raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
        guard version == TLS1_2_VERSION || version == TLS1_3_VERSION else { return nil }
        switch cipher {
        case 51: bytes = Array(UnsafeRawBufferPointer(start: raw, count: 40))  // AES-128-GCM
        case 52, 54: bytes = Array(UnsafeRawBufferPointer(start: raw, count: 56))  // AES-256-GCM, ChaCha20-Poly1305
        default: return nil
        }
        countsInIV = version == TLS1_2_VERSION && cipher != 54  // RFC 5288 section 3: the explicit part of the nonce
    }

    /// Skips records that have been sealed by it.
    mutating func advance(by records: UInt64) {
        add(records, before: bytes.count)
        if countsInIV { add(records, before: 12) }
    }

    /// Adds to the number in the eight bytes before `end`.
    private mutating func add(_ records: UInt64, before end: Int) {
        let number = bytes[end - 8..<end].reduce(0) { $0 << 8 | UInt64($1) } &+ records
        for index in 0..<8 { bytes[end - 1 - index] = UInt8(truncatingIfNeeded: number >> (8 * UInt64(index))) }
    }

    mutating func wipe() { bytes.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
}
