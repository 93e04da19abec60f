import Bytes
import Connections
import Glibc
import LinuxIO
import Relay
import Synchronization
import Testing
import Wire

/// What a hub's stream does with its legs: tells the other one how one ended.
private final class Stream: LegOwner {
    var legs: [WebSocketLeg] = []
    let ends: Mutex<[LegEnd]> = Mutex([])

    func ended(_ leg: any HubLeg, _ end: LegEnd, on reactor: Reactor) {
        ends.withLock { $0.append(end) }
        for other in legs where other !== leg {
            switch end {
            case .closed(let code): other.close(code: code ?? WebSocketClose.normal, on: reactor)
            case .broken: other.close(code: WebSocketClose.internalError, reason: "WS disconnected", on: reactor)
            }
        }
    }
}

/// Two legs on a reactor of their own and the clients at their far ends.
private final class LegRig: Sendable {
    let one: Peer, two: Peer
    private let mailbox: Mailbox, thread: Thread

    init(joins: Bool = true, passesEmpty: Bool = false) throws {
        let (one, oneFar) = try connectedPair(), (two, twoFar) = try connectedPair()
        (self.one, self.two) = (one, two)
        (mailbox, thread) = try Reactor.start { _ in }
        mailbox.send { reactor in
            let stream = Stream()
            for far in [oneFar, twoFar] {
                stream.legs.append(
                    WebSocketLeg(Channel(Transport(OwnedDescriptor(adopting: far))), owner: stream, passesEmpty: passesEmpty))
            }
            reactor.resident = stream
            if joins { WebSocketLeg.join(stream.legs[0], stream.legs[1], on: reactor) }  // before they start, as an admitted leg is
            for leg in stream.legs { leg.start(on: reactor) }
        }
    }

    deinit {
        mailbox.send { $0.stop() }
        thread.join()
    }

    func join() {
        mailbox.send { reactor in
            if let legs = (reactor.resident as? Stream)?.legs { WebSocketLeg.join(legs[0], legs[1], on: reactor) }
        }
    }
}

/// A masked frame as a client sends it.
private func frame(_ opcode: WebSocketOpcode, _ payload: [UInt8], fin: Bool = true) -> [UInt8] {
    var queue = ByteQueue()
    WebSocketFrameHeader.encodeFrame(opcode, payload.span.bytes, fin: fin, maskKey: 0x1234_5678, into: &queue)
    return queue.toArray()
}

/// The same frame as the other client gets it.
private func bare(_ opcode: WebSocketOpcode, _ payload: [UInt8], fin: Bool = true) -> [UInt8] {
    var queue = ByteQueue()
    WebSocketFrameHeader.encodeFrame(opcode, payload.span.bytes, fin: fin, into: &queue)
    return queue.toArray()
}

private func close(_ code: UInt16?, _ reason: String = "", masked: Bool) -> [UInt8] {
    var queue = ByteQueue()
    WebSocketFrameHeader.encodeClose(code: code, reason: reason, maskKey: masked ? 7 : nil, into: &queue)
    return queue.toArray()
}

@Suite struct WebSocketLegTests {
    @Test(arguments: [1, 125, 126, 65535, 65536, 70000]) func messagesKeepTheirOpcodeAndLength(_ count: Int) throws {
        let rig = try LegRig()
        for opcode in [WebSocketOpcode.binary, .text] {
            rig.one.send(frame(opcode, pattern(count)))
            let expected = bare(opcode, pattern(count))
            #expect(rig.two.receive(expected.count) == expected)
        }
    }

    @Test func fragmentsStayFragmentsWithAnEmptyLastOne() throws {
        let rig = try LegRig()
        rig.one.send(
            frame(.text, [1, 2], fin: false) + frame(.ping, [9]) + frame(.continuation, [3], fin: false) + frame(.continuation, []))
        let expected = bare(.text, [1, 2], fin: false) + bare(.continuation, [3], fin: false) + bare(.continuation, [])
        #expect(rig.two.receive(expected.count) == expected)
        #expect(rig.one.receive(3) == bare(.pong, [9]))
    }

    @Test func anEmptyMessageIsDroppedUnlessBothEndsKnowIt() throws {
        let rig = try LegRig()
        rig.one.send(frame(.binary, []) + frame(.binary, [1]))
        #expect(rig.two.receive(3) == bare(.binary, [1]))
        let ours = try LegRig(passesEmpty: true)
        ours.one.send(frame(.binary, []) + frame(.binary, [1]))
        #expect(ours.two.receive(5) == bare(.binary, []) + bare(.binary, [1]))
    }

    @Test func aBurstOfEmptyMessagesIsAnEnd() throws {
        let rig = try LegRig()
        rig.one.send((0..<65).flatMap { _ in frame(.binary, []) })
        #expect(rig.one.receive(4) == close(1000, masked: false))
        #expect(rig.two.receive(4) == close(1000, masked: false))
    }

    @Test func earlyBytesOfBothSidesComeFirstAndInOrder() throws {
        let rig = try LegRig(joins: false)
        let first = frame(.binary, pattern(1000)), big = frame(.binary, pattern(300_000))
        rig.one.send(first + Array(big[..<50_000]))
        rig.two.send(frame(.binary, [1, 2, 3]))
        rig.join()
        let sending = try Thread.start { rig.one.send(Array(big[50_000...])) }
        let expected = bare(.binary, pattern(1000)) + bare(.binary, pattern(300_000))
        #expect(rig.two.receive(expected.count) == expected)
        #expect(rig.one.receive(5) == bare(.binary, [1, 2, 3]))
        sending.join()
    }

    @Test(arguments: [1000, 4000, nil] as [UInt16?]) func aCloseIsAnsweredAndPassedOnBehindTheData(_ code: UInt16?) throws {
        let rig = try LegRig()
        rig.one.send(frame(.binary, pattern(100_000)) + close(code, masked: true))
        let answer = close(code, masked: false)
        #expect(rig.one.receive(answer.count) == answer)
        let expected = bare(.binary, pattern(100_000)) + close(code ?? 1000, masked: false)
        #expect(rig.two.receive(expected.count) == expected)
        rig.two.send(close(code ?? 1000, masked: true))
        #expect(rig.two.ending() == 0)
    }

    @Test func aCloseWaitsForTheEndOfTheOtherSidesFrame() throws {
        let rig = try LegRig()
        let whole = frame(.binary, pattern(60_000)), expected = bare(.binary, pattern(60_000))
        rig.two.send(Array(whole[..<20_000]))
        #expect(rig.one.receive(10_000) == Array(expected[..<10_000]))
        rig.one.send(close(1000, masked: true))
        #expect(rig.two.receive(4) == close(1000, masked: false))
        rig.two.send(Array(whole[20_000...]) + frame(.binary, [0, 0, 0]) + close(1000, masked: true))
        #expect(rig.one.receive(100_000) == Array(expected[10_000...]) + close(1000, masked: false))
    }

    @Test func aConnectionThatDropsIsA1011() throws {
        let rig = try LegRig()
        rig.one.send(frame(.binary, [5]))
        rig.one.close()
        let expected = bare(.binary, [5]) + close(1011, "WS disconnected", masked: false)
        #expect(rig.two.receive(expected.count) == expected)
    }

    @Test func nothingIsSaidBehindAFrameThatWasCut() throws {
        let rig = try LegRig()
        rig.one.send(Array(frame(.binary, pattern(1000))[..<500]))
        let expected = Array(bare(.binary, pattern(1000))[..<496])
        #expect(rig.two.receive(496) == expected)
        rig.one.close()
        #expect(rig.two.receive(100) == [])
    }

    @Test func aSlowReaderHoldsBackItsOwnDirectionOnly() throws {
        let rig = try LegRig()
        #expect(rig.one.sendUntilStalled(frame(.binary, pattern(65536))) < 32 << 20)
        rig.two.send(frame(.binary, pattern(50_000)))
        let expected = bare(.binary, pattern(50_000))
        #expect(rig.one.receive(expected.count) == expected)
    }

    @Test func anUnmaskedFrameIsA1002() throws {
        let rig = try LegRig()
        rig.one.send(bare(.binary, [1]))
        #expect(rig.one.receive(4) == close(1002, masked: false))
        let expected = close(1011, "WS disconnected", masked: false)
        #expect(rig.two.receive(expected.count) == expected)
    }
}
