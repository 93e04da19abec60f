import Glibc
import LinuxIO
import Synchronization

/// Standard input and output as one socket. They may be files, pipes, terminals or sockets, which a reactor cannot all watch, and
/// others may share them, so that they must not become non-blocking: two threads carry their bytes to and from a socket pair.
final class StandardStreams: Sendable {
    /// What went wrong here.
    enum Trouble: Equatable, Sendable {
        /// Reading failed.
        case input(CInt)
        /// Writing failed; EPIPE when the reader has gone.
        case output(CInt)
    }

    private let inner: CInt
    private let socket: Mutex<OwnedDescriptor?>
    private let input: CInt, output: CInt
    private let troubled: @Sendable (Trouble) -> Void
    private let writer = Mutex<Thread?>(nil)

    /// Gives a standard descriptor that is closed something to be, lest a socket of ours takes its number. Reading then finds the
    /// end, and writing fails.
    static func occupy() {
        for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) == -1 {
            _ = Glibc.open("/dev/null", O_RDONLY)  // takes the lowest number that is free: this one
        }
    }

    /// Starts the threads.
    /// - Parameters:
    ///   - input, output: descriptors that somebody else keeps open.
    ///   - troubled: called from one of the threads; the stream is then good for nothing.
    static func open(
        input: CInt = STDIN_FILENO, output: CInt = STDOUT_FILENO, troubled: @escaping @Sendable (Trouble) -> Void
    ) throws(SystemError) -> StandardStreams {
        var pair: [CInt] = [-1, -1]
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw SystemError("socketpair")
        }
        let socket = OwnedDescriptor(adopting: pair[0])
        let isNonBlocking = fcntl(socket.raw, F_SETFL, O_NONBLOCK) == 0
        let streams = StandardStreams(inner: pair[1], outer: socket, input: input, output: output, troubled: troubled)
        guard isNonBlocking else { throw SystemError("fcntl") }
        let writer = try Thread.start { streams.writeAll() }
        streams.writer.withLock { $0 = writer }
        _ = try Thread.start { streams.readAll() }
        return streams
    }

    private init(inner: CInt, outer: consuming OwnedDescriptor, input: CInt, output: CInt, troubled: @escaping @Sendable (Trouble) -> Void)
    {
        self.inner = inner
        socket = Mutex(outer)
        self.input = input
        self.output = output
        self.troubled = troubled
    }

    deinit { close(inner) }  // the threads hold us for as long as they use it

    /// The socket for the reactor, once.
    func takeSocket() -> OwnedDescriptor? { socket.withLock { $0.take() } }

    /// Waits until everything that came has been written; call it when the socket's other end has been closed.
    func finishWriting() { writer.withLock { $0.take() }?.join() }

    private static let chunk = 65536

    private func readAll() {
        withUnsafeTemporaryAllocation(byteCount: Self.chunk, alignment: 16) { buffer in
            while true {
                let count = read(input, buffer.baseAddress, buffer.count)
                if count > 0 {
                    guard sendAll(UnsafeRawBufferPointer(rebasing: buffer[..<count])) else { return }
                } else if count == 0 {
                    shutdown(inner, CInt(SHUT_WR))
                    return
                } else if errno == EAGAIN {
                    wait(for: input, Int16(POLLIN))
                } else if errno != EINTR {
                    return troubled(.input(errno))
                }
            }
        }
    }

    private func sendAll(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            let count = send(inner, rest.baseAddress, rest.count, CInt(MSG_NOSIGNAL))
            if count < 0 {
                if errno == EINTR { continue }
                return false  // the stream has ended
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
        return true
    }

    private func writeAll() {
        withUnsafeTemporaryAllocation(byteCount: Self.chunk, alignment: 16) { buffer in
            while true {
                // A reader that goes away while nothing comes is noticed too.
                var wishes = [
                    pollfd(fd: inner, events: Int16(POLLIN), revents: 0), pollfd(fd: output, events: 0, revents: 0),
                ]
                if poll(&wishes, 2, -1) < 0 { continue }
                if wishes[0].revents == 0, wishes[1].revents != 0 {
                    return troubled(.output(wishes[1].revents & Int16(POLLNVAL) != 0 ? EBADF : EPIPE))
                }
                let count = recv(inner, buffer.baseAddress, buffer.count, 0)
                if count > 0 {
                    if let error = write(UnsafeRawBufferPointer(rebasing: buffer[..<count])) { return troubled(.output(error)) }
                } else if count == 0 || errno != EINTR {
                    shutdown(inner, CInt(SHUT_RDWR))  // what is still read from standard input has nowhere to go
                    return
                }
            }
        }
    }

    /// Nil, or the error number.
    private func write(_ bytes: UnsafeRawBufferPointer) -> CInt? {
        var rest = bytes
        while !rest.isEmpty {
            let count = Glibc.write(output, rest.baseAddress, rest.count)
            if count >= 0 {
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            } else if errno == EAGAIN {
                wait(for: output, Int16(POLLOUT))
            } else if errno != EINTR {
                return errno
            }
        }
        return nil
    }

    private func wait(for descriptor: CInt, _ events: Int16) {
        var wish = pollfd(fd: descriptor, events: events, revents: 0)
        poll(&wish, 1, -1)
    }
}
