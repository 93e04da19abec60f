import Connections
import Glibc
import LinuxIO
import Relay
import Testing

/// Keeps each of two legs alive until it has ended.
private final class Stream: LegOwner {
    var legs: [BlindLeg] = []

    func ended(_ leg: any HubLeg, _ end: LegEnd, on reactor: Reactor) { legs.removeAll { $0 === leg } }
}

/// Two joined raw legs on a reactor of their own and the clients at their far ends.
private final class BlindRig: Sendable {
    let one: Peer, two: Peer
    private let mailbox: Mailbox, thread: Thread

    init() throws {
        let (one, oneFar) = try connectedPair(), (two, twoFar) = try connectedPair()
        (self.one, self.two) = (one, two)
        (mailbox, thread) = try Reactor.start { _ in }
        mailbox.send { reactor in
            let stream = Stream()
            stream.legs = [oneFar, twoFar].map { BlindLeg(BareSocket(OwnedDescriptor(adopting: $0)), owner: stream) }
            reactor.resident = stream
            for leg in stream.legs { leg.start(on: reactor) }
            BlindLeg.join(stream.legs[0], stream.legs[1], on: reactor)
        }
    }

    deinit {
        mailbox.send { $0.stop() }
        thread.join()
    }
}

/// Whether `bytes` are `piece` over and over.
private func consists(_ bytes: [UInt8], of piece: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { all in
        stride(from: 0, to: all.count, by: piece.count).allSatisfy { start in
            let part = UnsafeRawBufferPointer(rebasing: all[start..<min(start + piece.count, all.count)])
            return part.baseAddress.map { memcmp($0, piece, part.count) == 0 } ?? false
        }
    }
}

@Suite struct BlindLegTests {
    @Test(arguments: [1, 65535, 65536, 65537, 5_000_000]) func bytesPassAsTheyAreBothWays(_ count: Int) throws {
        let rig = try BlindRig()
        let sender = try Thread.start { _ = rig.one.send(pattern(count)) }
        #expect(rig.two.receive(count) == pattern(count))
        sender.join()
        let answerer = try Thread.start { _ = rig.two.send(pattern(count, from: 7)) }
        #expect(rig.one.receive(count) == pattern(count, from: 7))
        answerer.join()
    }

    /// A direction whose target takes no more stops listening for arrivals. What came meanwhile, and the end, must not be lost.
    @Test func arrivalsDuringAStallAreReadWhenItIsOver() throws {
        let rig = try BlindRig()
        let piece = pattern(65536)
        for round in 0..<3 {
            var sent = rig.one.sendUntilStalled(piece)
            #expect(sent > 65536)
            let part = sent % piece.count  // where the last piece was cut
            var received = rig.two.receive(sent / 2)
            // There is room again, so the rest of the piece goes while the direction is being emptied.
            rig.one.send(Array(piece[part...]))
            sent += piece.count - part
            received += rig.two.receive(sent - received.count)
            #expect(received.count == sent && consists(received, of: piece))
            rig.two.send([UInt8(round)])  // the other direction never stopped
            #expect(rig.one.receive(1) == [UInt8(round)])
        }
    }

    @Test func anEndDuringAStallComesBehindEverything() throws {
        let rig = try BlindRig()
        let sent = rig.one.sendUntilStalled(pattern(65536))
        rig.one.finishWriting()
        #expect(rig.two.receive(sent + 1).count == sent)
        #expect(rig.two.ending() == 0)
        rig.two.send([1, 2, 3])
        rig.two.finishWriting()
        #expect(rig.one.receive(4) == [1, 2, 3])
        #expect(rig.one.ending() == 0)
    }

    @Test func aResetDuringAStallIsAResetForTheOtherLeg() throws {
        let rig = try BlindRig()
        _ = rig.one.sendUntilStalled(pattern(65536))
        rig.one.reset()
        #expect(rig.two.ending() == ECONNRESET)
    }
}
