import Bytes
import Connections
import Glibc
import LinuxIO
import Synchronization
import Testing

/// Echoes lines; "move" carries the connection to the other reactor, "next" gives it to another owner, "bye" lingers.
private final class Echo: Connection {
    let other: Mailbox?

    init(_ channel: consuming Channel, movesTo other: Mailbox?) {
        self.other = other
        super.init(channel)
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        var used = 0
        while let end = bytes.firstIndex(of: 10, from: used) {
            let line = bytes.extracting(used..<end + 1)
            used = end + 1
            channel.output.append(line)
            if line.equals("move\n"), let other {
                channel.move(to: other) { channel, _ in Echo(channel, movesTo: nil) }
                return used
            }
            if line.equals("next\n") {
                channel.handOn()
                return used
            }
            if line.equals("bye\n") {
                channel.finishLingering()
                return used
            }
        }
        return used
    }

    override func handedOn(_ channel: consuming Channel, on reactor: Reactor) {
        Echo(channel, movesTo: other).start(on: reactor)
    }
}

/// Takes a thousand bytes and pauses, again and again; says "done" after three million.
private final class Sipper: Connection {
    static let total = 3_000_000
    private var seen = 0

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        let used = min(bytes.byteCount, 1000)
        seen += used
        if seen == Self.total { channel.output.append("done".utf8Span.span.bytes) }
        pause(on: reactor)
        let token = self.token
        reactor.mailbox.send { reactor in (reactor.source(token) as? Sipper)?.resume(on: reactor) }
        return used
    }
}

/// A blocking client, as plain as can be.
private struct Client: ~Copyable {
    let socket: OwnedDescriptor

    init(port: UInt16) throws {
        socket = OwnedDescriptor(adopting: Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0))
        let address = try #require(SocketAddress(address: "127.0.0.1", port: port))
        try #require(address.withSockaddr { connect(socket.raw, $0, $1) } == 0)
    }

    func send(_ text: String) { _ = Glibc.send(socket.raw, text, text.utf8.count, CInt(MSG_NOSIGNAL)) }

    func receive(_ count: Int) -> String {
        var bytes: [UInt8] = [], chunk = [UInt8](repeating: 0, count: 65536)
        while bytes.count < count {
            let got = recv(socket.raw, &chunk, min(chunk.count, count - bytes.count), 0)
            if got <= 0 { break }
            bytes.append(contentsOf: chunk[..<got])
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

@Suite struct ConnectionTests {
    /// Two reactors, a listener on the first, and what the test does meanwhile.
    private func withEcho(_ body: (UInt16) throws -> Void) throws {
        try with({ Echo($0, movesTo: $1) }, body)
    }

    private func with(
        _ make: @escaping @Sendable (consuming Channel, Mailbox) -> Connection, _ body: (UInt16) throws -> Void
    ) throws {
        let (second, secondThread) = try Reactor.start { _ in }
        let port = Mutex<UInt16?>(nil)
        let (first, firstThread) = try Reactor.start { reactor in
            guard let address = SocketAddress(address: "127.0.0.1", port: 0), let socket = try? Listener.open(at: address),
                let listener = try? Listener(
                    socket, on: reactor,
                    accepted: { socket, _, reactor in make(Channel(Transport(socket)), second).start(on: reactor) })
            else { return }
            port.withLock { $0 = listener.address?.port }
        }
        while port.withLock({ $0 }) == nil { sched_yield() }
        try body(try #require(port.withLock { $0 }))
        first.send { $0.stop() }
        second.send { $0.stop() }
        firstThread.join()
        secondThread.join()
    }

    @Test func echoesAcrossAMoveToAnotherReactor() throws {
        try withEcho { port in
            let client = try Client(port: port)
            client.send("one\nmove\ntwo\nhalf a li")
            #expect(client.receive(13) == "one\nmove\ntwo\n")
            client.send("ne\n")
            #expect(client.receive(12) == "half a line\n")
        }
    }

    @Test func offersUnusedInputToTheNextOwner() throws {
        try withEcho { port in
            let client = try Client(port: port)
            client.send("one\nnext\ntwo\nnext\nhalf a li")
            #expect(client.receive(18) == "one\nnext\ntwo\nnext\n")
            client.send("ne\n")
            #expect(client.receive(12) == "half a line\n")
        }
    }

    @Test func delivers64MiBWithoutLosingAByte() throws {
        try withEcho { port in
            let client = try Client(port: port)
            let line = String(repeating: "x", count: 65535) + "\n"
            for _ in 0..<256 {
                client.send(line)
                #expect(client.receive(65536) == line)
            }
        }
    }

    @Test func whoPausesInTheMiddleOfItsTurnIsNotReadFrom() throws {
        try with({ channel, _ in Sipper(channel) }) { port in
            let client = try Client(port: port)
            client.send(String(repeating: "x", count: Sipper.total))
            #expect(client.receive(4) == "done")
        }
    }

    @Test func lastWordsSurviveUnreadInput() throws {
        try withEcho { port in
            for _ in 0..<50 {
                let client = try Client(port: port)
                client.send("bye\n" + String(repeating: "unread", count: 2000))
                #expect(client.receive(100) == "bye\n")
            }
        }
    }
}
