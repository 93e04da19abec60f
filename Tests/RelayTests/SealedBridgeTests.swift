import Connections
import Glibc
import LinuxIO
import Relay
import TLS
import Testing

@Suite(.serialized) struct SealedBridgeTests {
    @Test(arguments: [false, true]) func carriesBytesBothWays(insideWebSocket: Bool) throws {
        let rig = try SealedRig(insideWebSocket: insideWebSocket)
        for count in [1, 16384, 16385, 65535, 65536, 65537, 1_000_000] {
            let bytes = pattern(count, from: count)
            let sending = try Thread.start { rig.service.send(bytes) }
            let answering = try Thread.start { rig.device.send(bytes) }
            #expect(rig.device.receive(count) == bytes)
            #expect(rig.service.receive(count) == bytes)
            sending.join()
            answering.join()
        }
    }

    @Test(arguments: [false, true]) func anEndOfFileTravelsBehindItsBytesAndTheOtherDirectionGoesOn(insideWebSocket: Bool) throws {
        let rig = try SealedRig(insideWebSocket: insideWebSocket)
        rig.service.send(Array("question".utf8))
        rig.service.finishWriting()
        #expect(rig.device.receive(100) == Array("question".utf8))
        let answer = pattern(300_000)
        let answering = try Thread.start {
            rig.device.send(answer)
            rig.device.close()
        }
        #expect(rig.service.receive(400_000) == answer)
        #expect(rig.service.ending() == 0)
        answering.join()
        for end in [SealedRig.End.service, .device] {
            let report = try #require(rig.report(end))
            #expect(report.end == .orderly)
            #expect(report.bytesFromLocal == (end == .service ? 8 : 300_000))
            #expect(report.bytesToLocal == (end == .device ? 8 : 300_000))
        }
    }

    @Test(arguments: [false, true], [false, true]) func aResetOfOneLocalConnectionResetsTheOther(insideWebSocket: Bool, byDevice: Bool)
        throws
    {
        let rig = try SealedRig(insideWebSocket: insideWebSocket)
        rig.service.send([1])
        #expect(rig.device.receive(1) == [1])
        (byDevice ? rig.device : rig.service).reset()
        #expect((byDevice ? rig.service : rig.device).ending() == ECONNRESET)
        #expect(rig.report(byDevice ? .device : .service)?.end == .localReset)
        #expect(rig.report(byDevice ? .service : .device)?.end == .peerReset)
    }

    @Test(arguments: [false, true]) func aResetBehindAnEndOfFileIsNoticed(insideWebSocket: Bool) throws {
        let rig = try SealedRig(insideWebSocket: insideWebSocket)
        rig.device.finishWriting()
        #expect(rig.service.receive(1) == [])
        rig.device.reset()
        #expect(rig.report(.device)?.end == .localReset)
        #expect(rig.report(.service)?.end == .peerReset)
        let isSent = rig.service.send(pattern(10_000_000))
        #expect(!isSent)
    }

    @Test(arguments: [false, true]) func aCutWireIsAResetAtBothEnds(resets: Bool) throws {
        let rig = try SealedRig()
        rig.service.send([1])
        #expect(rig.device.receive(1) == [1])
        rig.cut(resets: resets)
        #expect(rig.service.ending() == ECONNRESET)
        #expect(rig.device.ending() == ECONNRESET)
        // One end's reset may reach the other before the wire's.
        let ends: [LocalBridge.End?] = [.peerReset, .broken("connection cut without a TLS goodbye")]
        #expect(ends.contains(rig.report(.service)?.end) && ends.contains(rig.report(.device)?.end))
    }

    @Test(arguments: [false, true]) func aReaderThatStopsSlowsTheWriterDownAndNothingGrows(insideWebSocket: Bool) throws {
        let rig = try SealedRig(insideWebSocket: insideWebSocket)
        let sent = rig.service.sendUntilStalled(pattern(65536))
        #expect(sent > 65536 && sent < 48 << 20)
        // The other direction does not mind.
        rig.device.send(pattern(100_000))
        #expect(rig.service.receive(100_000) == pattern(100_000))
        #expect(rig.device.receive(sent).count == sent)
    }

    @Test func aSessionForAnotherStreamDoesNotComeToBe() throws {
        let rig = try SealedRig(names: ["iotstream/a", "iotstream/b"])
        #expect(rig.refusal(.service) == .failed(.tls(.alert("no application protocol"))))
        #expect(rig.refusal(.device) != nil)
        #expect(rig.service.ending() == ECONNRESET)
    }

    @Test(arguments: [false, true]) func aServiceThatIsNotAdmittedIsToldSoAlsoWhenItHasSpokenAlready(insideWebSocket: Bool) throws {
        let rig = try SealedRig(insideWebSocket: insideWebSocket, admits: { _ in false })
        rig.service.send(pattern(1000))
        #expect(rig.report(.service)?.end == .alert("bad certificate"))
        #expect(rig.refusal(.device) != nil)
        #expect(rig.service.ending() == ECONNRESET)
        #expect(rig.device.receive(1) == [])
    }

    @Test func sessionsAreResumed() throws {
        for _ in 0..<2 {
            let rig = try SealedRig()
            rig.device.send([1])
            #expect(rig.service.receive(1) == [1])
            if rig.isResumed { return }
        }
        Issue.record("no session was resumed")
    }
}
