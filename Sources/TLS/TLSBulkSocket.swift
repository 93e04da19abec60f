import COpenSSL
import Glibc

/// The socket as OpenSSL sees it in a session that carries bulk: a BIO over `TLSInlet` and `TLSOutlet`.
final class TLSBulkSocket {
    private let socket: CInt
    private let ssl: OpaquePointer  // SSL*, which owns the BIO and goes first
    var inlet = TLSInlet()
    var outlet: TLSOutlet

    /// Takes the place of what `ssl` has read from and written to; nil without memory. Lives for longer than `ssl`.
    init?(_ socket: CInt, under ssl: OpaquePointer) {
        guard let method = Self.method, let bio = BIO_new(method.raw) else { return nil }
        self.socket = socket
        self.ssl = ssl
        outlet = TLSOutlet(socket)
        BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        BIO_set_init(bio, 1)
        SSL_set_bio(ssl, bio, bio)
    }

    /// Whether OpenSSL keeps its buffers behind a record because another one follows; it would make and free them for each. It looks at
    /// this when a record is done, and when a read has found nothing.
    func keepBuffers(_ keeps: Bool) { cssl_keep_buffers(ssl, keeps ? 1 : 0) }

    private func read(into bytes: UnsafeMutableRawBufferPointer) -> TLSInlet.Outcome {
        let outcome = inlet.read(into: bytes, from: socket)
        if case .bytes = outcome { keepBuffers(true) } else { keepBuffers(false) }
        return outcome
    }

    // The BIO

    /// Made once; OpenSSL only reads it.
    private struct Method: @unchecked Sendable { let raw: OpaquePointer }

    private static let method: Method? = {
        guard let raw = BIO_meth_new(BIO_get_new_index() | CInt(BIO_TYPE_SOURCE_SINK), "bulk socket") else { return nil }
        BIO_meth_set_read(raw) { bio, bytes, count in
            guard let bio, let bytes, count > 0, let bulk = TLSBulkSocket.behind(bio) else { return -1 }
            BIO_clear_flags(bio, TLSBulkSocket.retryFlags)
            switch bulk.read(into: UnsafeMutableRawBufferPointer(start: bytes, count: Int(count))) {
            case .bytes(let count): return CInt(truncatingIfNeeded: count)
            case .nothingYet:
                BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
                return -1
            case .end: return 0
            case .broken: return -1
            }
        }
        BIO_meth_set_write(raw) { bio, bytes, count in
            guard let bio, let bytes, count > 0, let bulk = TLSBulkSocket.behind(bio) else { return -1 }
            BIO_clear_flags(bio, TLSBulkSocket.retryFlags)
            let result = bulk.outlet.write(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
            if result == 0 { BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY) }
            return result > 0 ? CInt(truncatingIfNeeded: result) : -1
        }
        BIO_meth_set_ctrl(raw) { bio, command, _, _ in
            switch command {
            case CInt(BIO_CTRL_FLUSH): 1
            case CInt(BIO_CTRL_EOF): bio.flatMap { TLSBulkSocket.behind($0) }?.inlet.hasEnded == true ? 1 : 0
            default: 0
            }
        }
        return Method(raw: raw)
    }()

    private static let retryFlags = BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY

    private static func behind(_ bio: OpaquePointer) -> TLSBulkSocket? {
        BIO_get_data(bio).map { Unmanaged<TLSBulkSocket>.fromOpaque($0).takeUnretainedValue() }
    }
}
