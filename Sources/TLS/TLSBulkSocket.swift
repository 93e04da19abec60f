import CLinux
import COpenSSL
import Glibc
import LinuxIO

/// The socket as OpenSSL sees it in a session that carries bulk, or may come to: a BIO over `TLSInlet` and `TLSOutlet`. It may see how the
/// kernel takes over the sending side.
final class TLSBulkSocket {
    private let socket: CInt
    private let ssl: OpaquePointer  // SSL*, which owns the BIO and goes first
    var inlet = TLSInlet()
    var outlet: TLSOutlet
    private(set) var kernel: KernelSealing?
    /// OpenSSL has a record that has not gone out whole.
    private var isMidRecord = false

    /// Takes the place of what `ssl` has read from and written to; nil without memory. Lives for longer than `ssl`.
    /// - Parameter kernelMaySeal: whether the kernel may come to seal what is sent. Only for a session that is just being made.
    init?(_ socket: CInt, under ssl: OpaquePointer, kernelMaySeal: Bool = false) {
        guard let method = Self.method, let bio = BIO_new(method.raw) else { return nil }
        self.socket = socket
        self.ssl = ssl
        outlet = TLSOutlet(socket)
        BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        BIO_set_init(bio, 1)
        SSL_set_bio(ssl, bio, bio)
        if kernelMaySeal { watch() }
    }

    deinit { kernel?.giveUp() }

    /// Whether OpenSSL keeps its buffers behind a record because another one follows; it would make and free them for each. It looks at
    /// this when a record is done, and when a read has found nothing.
    func keepBuffers(_ keeps: Bool) { cssl_keep_buffers(ssl, keeps ? 1 : 0) }

    private func read(into bytes: UnsafeMutableRawBufferPointer) -> TLSInlet.Outcome {
        let outcome = inlet.read(into: bytes, from: socket)
        if case .bytes = outcome { keepBuffers(true) } else { keepBuffers(false) }
        return outcome
    }

    /// Sends what OpenSSL has sealed. With the kernel sealing that is an alert, or the answer to a KeyUpdate, and goes nowhere: the kernel
    /// goes on with the key that it has, which a peer that asks for another one reads as well.
    private func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        if isKernelSealing { return bytes.count }
        let result = outlet.write(bytes)
        isMidRecord = result < bytes.count
        return result
    }

    // The kernel

    /// Whether the kernel seals what is sent.
    var isKernelSealing: Bool { kernel?.isOn ?? false }

    /// Has the kernel take over, if it may; nothing must be waiting in the outlet.
    func sealInKernel() {
        guard !isMidRecord, !isKernelSealing else { return }
        kernel?.begin(on: socket)
        if isKernelSealing { SSL_set_msg_callback(ssl, nil) }
    }

    /// Sends plain bytes for the kernel to seal. Bytes taken; 0 when the socket has no room.
    func sendPlain(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> Int {
        try TLSOutlet.send(UnsafeRawBufferPointer(rebasing: bytes[..<room(for: bytes.count)]), to: socket)
    }

    /// Has the kernel say close_notify, once; false while the socket has no room.
    func sayGoodbyeInKernel() throws(TLSError) -> Bool {
        guard SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN == 0 else { return true }
        guard room(for: 1) > 0 else { return false }
        let result = clx_kernel_tls_goodbye(socket)
        if result == -EAGAIN { return false }
        guard result >= 0 else { throw .system(SystemError("sendmsg", -result)) }
        SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_SENT_SHUTDOWN)
        return true
    }

    /// How many of `count` bytes the socket's own buffer takes as records; with 0, epoll tells when it does. The kernel would take more, and
    /// hold what it has sealed until there is room: behind a FIN that went out meanwhile, and never after close(2).
    private func room(for count: Int) -> Int {
        let room = max(0, clx_send_room(socket)) / 4 * 3  // the rest is for the buffer's own needs
        let whole = count <= room ? count : room / TLSSession.recordBytes * TLSSession.recordBytes
        if whole > 0 { return whole }
        var look = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
        return poll(&look, 1, 0) == 1 ? min(count, TLSSession.recordBytes) : 0  // a third of a small buffer may be less than a record
    }

    /// How OpenSSL's BIOs are asked to hand a key to the kernel; the macro has no name outside of it.
    private static let setKernelKey: CInt = 72

    private func offered(_ key: UnsafeMutableRawPointer?) { if let key { kernel?.keySet(key) } }

    /// Learns of the key, and of every record that is sealed by it.
    private func watch() {
        kernel = KernelSealing()
        SSL_set_options(ssl, cssl_option_ktls())
        SSL_ctrl(ssl, SSL_CTRL_SET_MSG_CALLBACK_ARG, 0, Unmanaged.passUnretained(self).toOpaque())
        SSL_set_msg_callback(ssl) { isSending, _, kind, bytes, count, _, argument in
            guard isSending == 1, let argument else { return }
            let bulk = Unmanaged<TLSBulkSocket>.fromOpaque(argument).takeUnretainedValue()
            switch kind {
            case SSL3_RT_HEADER: bulk.kernel?.recordSealed()
            case SSL3_RT_HANDSHAKE where count > 0 && bytes?.load(as: UInt8.self) == UInt8(SSL3_MT_KEY_UPDATE): bulk.kernel?.giveUp()
            default: break
            }
        }
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
            let result = bulk.write(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
            if result == 0 { BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY) }
            return result > 0 ? CInt(truncatingIfNeeded: result) : -1
        }
        BIO_meth_set_ctrl(raw) { bio, command, isSending, key in
            switch command {
            case TLSBulkSocket.setKernelKey where isSending != 0:
                bio.flatMap { TLSBulkSocket.behind($0) }?.offered(key)
                return 0  // OpenSSL goes on by itself
            case CInt(BIO_CTRL_FLUSH): return 1
            case CInt(BIO_CTRL_EOF): return bio.flatMap { TLSBulkSocket.behind($0) }?.inlet.hasEnded == true ? 1 : 0
            default: return 0
            }
        }
        return Method(raw: raw)
    }()

    private static let retryFlags = BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY

    private static func behind(_ bio: OpaquePointer) -> TLSBulkSocket? {
        BIO_get_data(bio).map { Unmanaged<TLSBulkSocket>.fromOpaque($0).takeUnretainedValue() }
    }
}
