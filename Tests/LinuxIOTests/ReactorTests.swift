import Glibc
import LinuxIO
import Synchronization
import Testing

@Suite struct ReactorTests {
    @Test func firesDeadlinesInOrderAndNeverEarly() throws {
        var fired: [Int] = [], late: [Int] = []
        try Reactor.runHere { reactor in
            for milliseconds in [300, 20, 120] {
                let started = Clock.milliseconds
                let timer = Timer(on: reactor) { timer, reactor in
                    fired.append(milliseconds)
                    late.append(Int(Clock.milliseconds - started) - milliseconds)
                    reactor.remove(timer)
                    if fired.count == 3 { reactor.stop() }
                }
                timer.set(inMilliseconds: milliseconds, on: reactor)
            }
        }
        #expect(fired == [20, 120, 300])
        #expect(late.allSatisfy { $0 >= 0 })
    }

    @Test func movesADeadlineLaterAndStopsIt() throws {
        var fired = 0
        try Reactor.runHere { reactor in
            let moved = Timer(on: reactor) { _, reactor in
                fired += 1
                reactor.stop()
            }
            moved.set(inMilliseconds: 10, on: reactor)
            moved.set(inMilliseconds: 250, on: reactor)
            let stopped = Timer(on: reactor) { _, _ in fired += 100 }
            stopped.set(inMilliseconds: 50, on: reactor)
            stopped.set(inMilliseconds: nil, on: reactor)
        }
        #expect(fired == 1)
    }

    @Test func firesDeadlinesMoreThanOneWheelTurnAway() throws {
        var fired = false
        try Reactor.runHere { reactor in
            // The wheel has 512 places of 50 ms; this one is looked at once on the way and left alone.
            let far = Timer(on: reactor) { _, _ in fired = true }
            far.set(inMilliseconds: 600_000, on: reactor)
            Timer(on: reactor) { _, reactor in reactor.stop() }.set(inMilliseconds: 200, on: reactor)
        }
        #expect(!fired)
    }

    @Test func deliversLettersInOrderAndRefusesThemAfterTheEnd() throws {
        let seen = Mutex<[Int]>([])
        let (mailbox, thread) = try Reactor.start { _ in }
        for number in 0..<1000 { mailbox.send { _ in seen.withLock { $0.append(number) } } }
        mailbox.send { $0.stop() }
        thread.join()
        #expect(seen.withLock { $0 } == Array(0..<1000))
        #expect(!mailbox.send { _ in })
    }

    @Test func dialsPastAnAddressThatRefuses() throws {
        let address = try #require(SocketAddress(address: "127.0.0.1", port: 0))
        let socket = try Listener.open(at: address)
        let port = try #require(SocketAddress.local(of: socket.raw)).port
        let closed = try Listener.open(at: address)
        let refusing = try #require(SocketAddress.local(of: closed.raw)).port
        _ = consume closed
        let targets = [
            try #require(SocketAddress(address: "::1", port: refusing)), try #require(SocketAddress(address: "127.0.0.1", port: refusing)),
            try #require(SocketAddress(address: "127.0.0.1", port: port)),
        ]
        var reached: UInt16?
        try Reactor.runHere { reactor in
            Dialer(to: targets, withinMilliseconds: 5000, on: reactor) { socket, _, reactor in
                if let socket { reached = SocketAddress.peer(of: socket.raw)?.port }
                reactor.stop()
            }
        }
        #expect(reached == port)
    }

    @Test func saysWhyNoAddressAnswered() throws {
        let closed = try Listener.open(at: try #require(SocketAddress(address: "127.0.0.1", port: 0)))
        let refusing = try #require(SocketAddress.local(of: closed.raw))
        _ = consume closed
        var reason: String?
        try Reactor.runHere { reactor in
            Dialer(to: [refusing], withinMilliseconds: 5000, on: reactor) { socket, error, reactor in
                if socket == nil { reason = error.reason }
                reactor.stop()
            }
        }
        #expect(reason == "connection refused")
    }

    @Test func readsBackTheAddressesItPrints() {
        for text in ["127.0.0.1", "::1", "2001:db8::5", "0.0.0.0"] {
            #expect(SocketAddress(address: text, port: 80)?.host == text)
        }
        #expect(SocketAddress(address: "[::1]", port: 443)?.description == "[::1]:443")
        #expect(SocketAddress(address: "hub.example.net", port: 443) == nil)
    }
}
