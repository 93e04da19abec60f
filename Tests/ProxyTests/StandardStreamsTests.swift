import Glibc
import LinuxIO
import Synchronization
import Testing

@testable import Proxy

@Suite(.serialized) struct StandardStreamsTests {
    private final class Log: Sendable {
        let troubles = Mutex<[StandardStreams.Trouble]>([])
    }

    private func pipePair() throws -> (read: CInt, write: CInt) {
        var ends: [CInt] = [-1, -1]
        try #require(pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    private func readAll(_ descriptor: CInt) -> [UInt8] {
        var bytes: [UInt8] = [], chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count > 0 { bytes += chunk[..<count] } else if count == 0 || errno != EINTR { return bytes }
        }
    }

    private func blocking(_ socket: borrowing OwnedDescriptor) { _ = fcntl(socket.raw, F_SETFL, 0) }

    @Test func carriesBothDirectionsAndTheirEnds() throws {
        let input = try pipePair(), output = try pipePair(), log = Log()
        let streams = try StandardStreams.open(input: input.read, output: output.write) { trouble in
            log.troubles.withLock { $0.append(trouble) }
        }
        guard let socket = streams.takeSocket() else { throw SystemError("socketpair") }
        blocking(socket)
        #expect(write(input.write, "question", 8) == 8)
        close(input.write)
        #expect(readAll(socket.raw) == Array("question".utf8))
        #expect(send(socket.raw, "answer", 6, 0) == 6)
        shutdown(socket.raw, CInt(SHUT_WR))
        streams.finishWriting()
        close(output.write)
        #expect(readAll(output.read) == Array("answer".utf8))
        #expect(log.troubles.withLock { $0.isEmpty })
        close(input.read)
        close(output.read)
    }

    @Test func regularFilesWork() throws {
        var name = Array("/tmp/iotstream-streams-XXXXXX".utf8CString)
        let file = mkstemp(&name)
        try #require(file >= 0)
        unlink(name)
        let bytes = [UInt8](repeating: 7, count: 300_000)
        #expect(write(file, bytes, bytes.count) == bytes.count)
        lseek(file, 0, SEEK_SET)
        let output = try pipePair()
        let streams = try StandardStreams.open(input: file, output: output.write) { _ in }
        guard let socket = streams.takeSocket() else { throw SystemError("socketpair") }
        blocking(socket)
        #expect(readAll(socket.raw) == bytes)
        shutdown(socket.raw, CInt(SHUT_RDWR))
        streams.finishWriting()
        for descriptor in [file, output.read, output.write] { close(descriptor) }
    }

    @Test func aReaderThatGoesAwayWhileNothingComesIsNoticed() throws {
        let input = try pipePair(), output = try pipePair(), log = Log()
        let streams = try StandardStreams.open(input: input.read, output: output.write) { trouble in
            log.troubles.withLock { $0.append(trouble) }
        }
        guard let socket = streams.takeSocket() else { throw SystemError("socketpair") }
        close(output.read)
        streams.finishWriting()
        #expect(log.troubles.withLock { $0 } == [.output(EPIPE)])
        _ = socket
        close(input.write)
        close(output.write)
    }

    @Test func aFullDiskIsReported() throws {
        let input = try pipePair(), log = Log()
        let full = open("/dev/full", O_WRONLY)
        let streams = try StandardStreams.open(input: input.read, output: full) { trouble in log.troubles.withLock { $0.append(trouble) } }
        guard let socket = streams.takeSocket() else { throw SystemError("socketpair") }
        #expect(send(socket.raw, "answer", 6, 0) == 6)
        streams.finishWriting()
        #expect(log.troubles.withLock { $0 } == [.output(ENOSPC)])
        close(input.write)
        close(full)
    }

    @Test func aDirectoryAsInputIsReported() throws {
        let output = try pipePair(), log = Log()
        let directory = open("/", O_RDONLY)
        let streams = try StandardStreams.open(input: directory, output: output.write) { trouble in
            log.troubles.withLock { $0.append(trouble) }
        }
        for _ in 0..<500 where log.troubles.withLock({ $0.isEmpty }) { usleep(10_000) }
        #expect(log.troubles.withLock { $0 } == [.input(EISDIR)])
        _ = streams.takeSocket()
        streams.finishWriting()
        for descriptor in [directory, output.read, output.write] { close(descriptor) }
    }
}
