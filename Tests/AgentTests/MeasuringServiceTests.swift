import Glibc
import LinuxIO
import Synchronization
import Testing

@testable import Agent

@Suite struct MeasuringServiceTests {
    @Test(
        arguments: [
            ("echo", .echo), ("discard", .discard), ("source 0", .source(0)), ("source 9223372036854775807", .source(UInt64(Int64.max))),
            ("source", nil), ("source ", nil), ("source -1", nil), ("source 1 2", nil), ("source 1x", nil),
            ("source 99999999999999999999", nil),
            ("echo ", nil), ("", nil), ("ECHO", nil), ("echo\r", nil), ("s\u{e9}", nil),
        ] as [(String, MeasuringService.Command?)])
    func knowsItsCommands(line: String, command: MeasuringService.Command?) {
        #expect(MeasuringService.Command(line.utf8Span.span.bytes) == command)
    }

    /// What the service says to `parts`, sent one after the other, before the end.
    private func say(_ parts: [[UInt8]]) throws -> [UInt8] {
        let raw = Mutex<CInt>(-1), isThere = Semaphore()
        let (mailbox, thread) = try Reactor.start { reactor in
            if let number = try? MeasuringService.open(on: reactor).release() { raw.withLock { $0 = number } }
            isThere.signal()
        }
        defer {
            mailbox.send { $0.stop() }
            thread.join()
        }
        isThere.wait()
        let socket = OwnedDescriptor(adopting: raw.withLock { $0 })
        #expect(fcntl(socket.raw, F_SETFL, 0) == 0)
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(socket.raw, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        for part in parts { #expect(part.withUnsafeBytes { send(socket.raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) } == part.count) }
        shutdown(socket.raw, CInt(SHUT_WR))
        var answer: [UInt8] = [], room = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(socket.raw, &room, room.count, 0)
            guard count > 0 else {
                #expect(count == 0)
                return answer
            }
            answer += room[..<count]
        }
    }

    private func text(_ parts: String...) throws -> String { String(decoding: try say(parts.map { Array($0.utf8) }), as: UTF8.self) }

    @Test func sendsBackWhatComes() throws {
        #expect(try text("echo\nhello") == "ok\nhello")
        #expect(try text("e", "cho", "\n", "hel", "lo") == "ok\nhello")
        #expect(try text("echo\n") == "ok\n")
    }

    @Test func countsWhatItDrops() throws {
        #expect(try text("discard\n") == "ok\n0\n")
        #expect(try text("discard\n12345", "67890") == "ok\n10\n")
    }

    @Test(arguments: [0, 1, 65536, 65537, 3_000_000]) func sendsAsMuchAsItIsTold(count: Int) throws {
        let answer = try say([Array("source \(count)\n".utf8)])
        #expect(answer.count == count + 3)
        #expect(answer.dropFirst(3).allSatisfy { $0 == 0x5A })
    }

    @Test func refusesWhatIsNoCommand() throws {
        #expect(try text("GET / HTTP/1.1\r\n\r\n").hasPrefix("error "))
        #expect(try text(String(repeating: "x", count: 64)).hasPrefix("error "))
        #expect(try text("echo") == "")
        #expect(try text("") == "")
    }
}
