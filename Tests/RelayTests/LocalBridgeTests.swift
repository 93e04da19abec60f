import Bytes
import Connections
import Glibc
import LinuxIO
import Relay
import Synchronization
import Testing
import Wire

/// A bridge on a reactor of its own between two sockets of the test.
private final class Rig: Sendable {
    let local: Peer, hub: Peer
    private let mailbox: Mailbox, thread: Thread
    private let outcome = Mutex<LocalBridge.Report?>(nil)

    /// - Parameter joins: whether the leg is there from the start.
    init(halfClose: Bool = true, joins: Bool = true) throws {
        let (local, localFar) = try connectedPair(), (hub, hubFar) = try connectedPair()
        (self.local, self.hub) = (local, hub)
        (mailbox, thread) = try Reactor.start { _ in }
        mailbox.send { [self] reactor in
            let bridge = LocalBridge(local: OwnedDescriptor(adopting: localFar), on: reactor) { [weak self] _, report, _ in
                self?.outcome.withLock { $0 = report }
            }
            reactor.resident = bridge
            let leg = OwnedDescriptor(adopting: hubFar)
            if joins {
                bridge.join(Channel(Transport(leg)), isHalfClosing: halfClose, on: reactor)
            }
        }
    }

    deinit {
        mailbox.send { $0.stop() }
        thread.join()
    }

    func withBridge(_ body: @escaping @Sendable (LocalBridge, Reactor) -> Void) {
        mailbox.send { reactor in
            if let bridge = reactor.resident as? LocalBridge { body(bridge, reactor) }
        }
    }

    /// The report, within fifteen seconds.
    func report() -> LocalBridge.Report? {
        for _ in 0..<1500 {
            if let report = outcome.withLock({ $0 }) { return report }
            usleep(10_000)
        }
        return nil
    }

    /// Whether nobody holds the bridge or its connections any more.
    func isGone() async -> Bool {
        await withCheckedContinuation { waiter in
            let isSent = mailbox.send { reactor in
                weak let bridge = reactor.resident as? LocalBridge
                reactor.resident = nil
                waiter.resume(returning: bridge == nil && reactor.count == 0)
            }
            if !isSent { waiter.resume(returning: false) }
        }
    }
}

private final class Tally: Sendable { let count = Atomic(0) }

@Suite(.serialized) struct LocalBridgeTests {
    @Test func carriesBytesBothWays() throws {
        let rig = try Rig()
        for count in [1, 125, 126, 127, 4096, 65535, 65536, 65537, 200_000] {
            let bytes = pattern(count, from: count)
            let sending = try Thread.start { rig.local.send(bytes) }
            #expect(try rig.hub.data(count) == bytes)
            sending.join()
            let answering = try Thread.start { rig.hub.sendFrame(.binary, bytes) }
            #expect(rig.local.receive(count) == bytes)
            answering.join()
        }
    }

    @Test func anEndOfFileIsAnEmptyMessageAndTheOtherDirectionGoesOn() async throws {
        let rig = try Rig()
        rig.local.send(Array("question".utf8))
        rig.local.finishWriting()
        #expect(try rig.hub.data(8) == Array("question".utf8))
        #expect(try rig.hub.next() == .empty)
        rig.hub.sendFrame(.binary, Array("long answer".utf8))
        #expect(rig.local.receive(11) == Array("long answer".utf8))
        rig.hub.sendFrame(.binary, [])
        #expect(rig.local.ending() == 0)
        #expect(try rig.hub.next() == .close(1000))
        rig.hub.sendClose(1000)
        rig.hub.close()
        let report = try #require(rig.report())
        #expect(report.end == .orderly && report.bytesFromLocal == 8 && report.bytesToLocal == 11)
        #expect(await rig.isGone())
    }

    @Test func anEmptyMessageIsAnEndOfFileAndTheOtherDirectionGoesOn() throws {
        let rig = try Rig()
        rig.hub.sendFrame(.binary, pattern(1000))
        rig.hub.sendFrame(.binary, [])
        #expect(rig.local.receive(2000) == pattern(1000))
        rig.local.send(pattern(100_000))
        #expect(try rig.hub.data(100_000) == pattern(100_000))
        rig.local.close()
        #expect(try rig.hub.next() == .empty)
        #expect(try rig.hub.next() == .close(1000))
        rig.hub.sendClose(1000)
        #expect(rig.report()?.end == .orderly)
    }

    @Test func dataAfterTheEmptyMessageIsAProtocolError() throws {
        let rig = try Rig()
        rig.hub.sendFrame(.binary, [])
        rig.hub.sendFrame(.binary, [1])
        #expect(try rig.hub.next() == .close(1002))
        rig.hub.close()
        #expect(rig.report()?.end == .protocolError(.messageInterrupted))
    }

    @Test func withoutHalfCloseAnEndOfFileEndsTheStreamBehindItsBytes() throws {
        let rig = try Rig(halfClose: false)
        rig.hub.sendFrame(.binary, [])  // means nothing here
        rig.local.send(pattern(70_000))
        rig.local.finishWriting()
        #expect(try rig.hub.data(70_000) == pattern(70_000))
        #expect(try rig.hub.next() == .close(1000))
        rig.hub.sendFrame(.binary, Array("late".utf8))
        rig.hub.sendClose(1000)
        #expect(rig.local.receive(100) == Array("late".utf8))
        #expect(rig.report()?.end == .orderly)
    }

    @Test(arguments: [1000, nil] as [UInt16?]) func anOrderlyCloseFlushesAndEndsTheLocalSide(_ code: UInt16?) throws {
        let rig = try Rig()
        rig.hub.sendFrame(.text, pattern(200_000))
        rig.hub.sendClose(code)
        #expect(rig.local.receive(300_000) == pattern(200_000))
        #expect(try rig.hub.next() == .close(code))
        rig.hub.close()
        #expect(rig.report()?.end == .orderly)
    }

    @Test func aCloseOf4000IsAReset() async throws {
        let rig = try Rig()
        rig.hub.sendClose(4000)
        #expect(rig.local.ending() == ECONNRESET)
        #expect(try rig.hub.next() == .close(4000))
        rig.hub.close()
        #expect(rig.report()?.end == .peerReset)
        #expect(await rig.isGone())
    }

    @Test func aResetIsACloseOf4000() async throws {
        let rig = try Rig()
        rig.local.send([1])
        #expect(try rig.hub.data(1) == [1])
        rig.local.reset()
        #expect(try rig.hub.next() == .close(4000))
        rig.hub.sendClose(4000)
        rig.hub.close()
        #expect(rig.report()?.end == .localReset)
        #expect(await rig.isGone())
    }

    @Test(arguments: [1001, 1009, 1011, 3000] as [UInt16]) func anyOtherCloseResetsTheLocalSide(_ code: UInt16) throws {
        let rig = try Rig()
        rig.hub.sendClose(code)
        #expect(rig.local.ending() == ECONNRESET)
        rig.hub.close()
        #expect(rig.report()?.end == .broken("closed with code \(code)"))
    }

    @Test func aLegThatEndsWithoutACloseResetsTheLocalSide() throws {
        for isReset in [false, true] {
            let rig = try Rig()
            rig.hub.sendFrame(.binary, [1])
            #expect(rig.local.receive(1) == [1])
            if isReset { rig.hub.reset() } else { rig.hub.close() }
            #expect(rig.local.ending() == ECONNRESET)
            let report = try #require(rig.report())
            guard case .broken = report.end else { throw Unexpected(report.end) }
        }
    }

    private struct Unexpected: Error {
        let end: LocalBridge.End
        init(_ end: LocalBridge.End) { self.end = end }
    }

    @Test(
        arguments: [
            [0x82, 0x81, 0, 0, 0, 0, 0x41],  // masked by a server
            [0xC2, 0x01, 0x41],  // a reserved bit
            [0x80, 0x01, 0x41],  // a continuation of nothing
            [0x83, 0x00],  // an unknown opcode
            [0x09, 0x00],  // a control frame in fragments
            [0x82, 0x7E, 0x00, 0x05],  // a length in too many bytes
            [0x88, 0x02, 0x03, 0xED],  // code 1005
        ] as [[UInt8]]) func badFramesEndWithAProtocolError(_ bytes: [UInt8]) throws
    {
        let rig = try Rig()
        rig.hub.send(bytes)
        #expect(try rig.hub.next() == .close(1002))
        #expect(rig.local.ending() == ECONNRESET)
        rig.hub.close()
        let report = try #require(rig.report())
        guard case .protocolError = report.end else { throw Unexpected(report.end) }
    }

    @Test func controlFramesStayOnTheLeg() throws {
        let rig = try Rig()
        rig.hub.sendFrame(.text, Array("one ".utf8), fin: false)
        rig.hub.sendFrame(.ping, Array("still there?".utf8))
        rig.hub.sendFrame(.pong, [])
        rig.hub.sendFrame(.continuation, Array("two".utf8), fin: false)
        rig.hub.sendFrame(.continuation, [], fin: true)
        #expect(rig.local.receive(7) == Array("one two".utf8))
        #expect(try rig.hub.next() == .pong(Array("still there?".utf8)))
    }

    @Test func framesMayComeByteByByte() throws {
        let rig = try Rig()
        var queue = ByteQueue()
        WebSocketFrameHeader.encodeFrame(.binary, pattern(300).span.bytes, into: &queue)
        WebSocketFrameHeader.encodeFrame(.ping, ([7] as [UInt8]).span.bytes, into: &queue)
        WebSocketFrameHeader.encodeFrame(.binary, pattern(5, from: 300).span.bytes, into: &queue)
        for byte in queue.toArray() { rig.hub.send([byte]) }
        #expect(rig.local.receive(305) == pattern(305))
        #expect(try rig.hub.next() == .pong([7]))
    }

    @Test func carries32MiBEachWayAtOnce() throws {
        let rig = try Rig(), total = 32 << 20, piece = 65536
        let up = try Thread.start {
            for start in stride(from: 0, to: total, by: piece) { rig.local.send(pattern(piece, from: start)) }
            rig.local.finishWriting()
        }
        let down = try Thread.start {
            for start in stride(from: 0, to: total, by: piece) { rig.hub.sendFrame(.binary, pattern(piece, from: start)) }
            rig.hub.sendFrame(.binary, [])
        }
        let wrong = Tally()
        let read = try Thread.start {
            for start in stride(from: 0, to: total, by: piece) where rig.local.receive(piece) != pattern(piece, from: start) {
                wrong.count.add(1, ordering: .relaxed)
            }
            if rig.local.ending() != 0 { wrong.count.add(1, ordering: .relaxed) }
        }
        var position = 0
        while case .data(let part) = try rig.hub.next() {
            guard part == pattern(part.count, from: position) else { break }
            position += part.count
        }
        #expect(position == total)
        for thread in [up, down, read] { thread.join() }
        #expect(wrong.count.load(ordering: .relaxed) == 0)
    }

    @Test func aReaderThatStopsHoldsBackItsOwnDirectionOnly() throws {
        let rig = try Rig()
        var queue = ByteQueue()
        WebSocketFrameHeader.encodeFrame(.binary, pattern(65526).span.bytes, into: &queue)
        let taken = rig.hub.sendUntilStalled(queue.toArray())
        #expect(taken < 32 << 20)  // socket buffers, and a few hundred kilobytes between them
        rig.local.send(pattern(1 << 20))
        #expect(try rig.hub.data(1 << 20) == pattern(1 << 20))
        // And the other way round: the hub does not read.
        let stuck = try Rig()
        #expect(stuck.local.sendUntilStalled(pattern(65536)) < 32 << 20)
        stuck.hub.sendFrame(.binary, pattern(1 << 20))
        #expect(stuck.local.receive(1 << 20) == pattern(1 << 20))
    }

    @Test func aLocalConnectionThatBreaksBeforeItsLegIsNoticed() async throws {
        let rig = try Rig(joins: false)
        rig.local.send([1, 2, 3])
        rig.local.reset()
        #expect(rig.report()?.end == .localReset)
        #expect(await rig.isGone())
    }

    @Test func refusingResetsTheLocalSide() throws {
        let rig = try Rig(joins: false)
        rig.withBridge { $0.refuse(on: $1) }
        #expect(rig.local.ending() == ECONNRESET)
        #expect(rig.report()?.end == .refused)
    }

    @Test func stoppingResetsTheLocalSideAndSaysSo() throws {
        let rig = try Rig()
        rig.withBridge { $0.abort(on: $1) }
        #expect(try rig.hub.next() == .close(1001))
        #expect(rig.local.ending() == ECONNRESET)
        #expect(rig.report()?.end == .aborted)
    }

    @Test func aHubThatNeverAnswersTheCloseIsLeft() throws {
        let rig = try Rig(halfClose: false)
        rig.local.finishWriting()
        #expect(try rig.hub.next() == .close(1000))
        #expect(rig.local.ending() == ECONNRESET)
        #expect(rig.report()?.end == .broken("no answer to Close"))
    }
}
