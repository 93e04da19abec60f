import Bytes
import Testing
import Wire

/// What a receiver made of some bytes in pieces, payload put together, error last.
private func receive(_ bytes: [UInt8], _ pieces: [Range<Int>], role: WebSocketRole = .client, unmasks: Bool = true) -> [String] {
    var receiver = WebSocketReceiver(role: role, unmasks: unmasks)
    var seen: [String] = []
    var payload: [UInt8] = []
    for piece in pieces {
        var bytes = Array(bytes[piece])
        let failed = bytes.withUnsafeMutableBytes { buffer in
            var position = 0
            do throws(WebSocketError) {
                while let event = try receiver.next(in: buffer, at: &position) {
                    switch event {
                    case .dataBegin(let opcode, let fin, let length): seen.append("\(opcode) \(fin ? "fin" : "more") \(length)")
                    case .payload(let range):
                        if unmasks {
                            payload += buffer[range]
                        } else {
                            var queue = ByteQueue()
                            let masked = UnsafeRawBufferPointer(rebasing: buffer[range]).bytes
                            WebSocketMask.append(masked, key: receiver.payloadKey, to: &queue)
                            payload += queue.toArray()
                        }
                        if receiver.remaining == 0 {
                            seen.append(String(decoding: payload, as: UTF8.self))
                            payload = []
                        }
                    case .control(let opcode, let payload): seen.append("\(opcode) \(String(decoding: payload, as: UTF8.self))")
                    case .close(let code, let reason): seen.append("close \(code.map(String.init) ?? "-") \(reason)")
                    }
                }
                return false
            } catch {
                seen.append("\(error) \(error.closeCode)")
                return true
            }
        }
        if failed { return seen }
    }
    if receiver.isClosed { seen.append("closed") } else if receiver.isBetweenMessages { seen.append("between") }
    return seen
}

private func frame(_ first: UInt8, _ payload: [UInt8]) -> [UInt8] {
    [first, UInt8(payload.count)] + payload
}

@Suite struct WebSocketReceiverTests {
    @Test(
        arguments: [
            (frame(0x81, "Hello".bytes), ["text fin 5", "Hello", "between"]),
            (frame(0x82, []), ["binary fin 0", "between"]),
            (frame(0x01, "Hel".bytes) + frame(0x80, "lo".bytes), ["text more 3", "Hel", "continuation fin 2", "lo", "between"]),
            (
                frame(0x02, "a".bytes) + frame(0x00, []) + frame(0x80, []),
                ["binary more 1", "a", "continuation more 0", "continuation fin 0", "between"]
            ),
            (
                frame(0x02, "a".bytes) + frame(0x89, "p".bytes) + frame(0x8A, []) + frame(0x80, "b".bytes),
                ["binary more 1", "a", "ping p", "pong ", "continuation fin 1", "b", "between"]
            ),
            (frame(0x02, "ab".bytes), ["binary more 2", "ab"]),
            (frame(0x88, []) + [0xFF, 0xFF], ["close - ", "closed"]),
            (frame(0x88, [0x03, 0xE8] + "bye".bytes) + frame(0x81, "x".bytes), ["close 1000 bye", "closed"]),
            (frame(0x01, "a".bytes) + frame(0x88, [0x0F, 0xA0]), ["text more 1", "a", "close 4000 ", "closed"]),
            (frame(0x80, "x".bytes), ["continuationUnexpected 1002"]),
            (frame(0x01, []) + frame(0x82, []), ["text more 0", "messageInterrupted 1002"]),
            (frame(0x88, [0x03]), ["malformedClose 1002"]),
            (frame(0x88, [0x03, 0xED]), ["malformedClose 1002"]),
            (frame(0x88, [0x00, 0x00]), ["malformedClose 1002"]),
            (frame(0x88, [0x03, 0xE8, 0xFF]), ["notUTF8 1007"]),
            ([0x81, 0x85, 0, 0, 0, 0], ["maskUnexpected 1002"]),
            ([0x81], []),
        ] as [([UInt8], [String])])
    func seesTheSameInEveryCut(_ bytes: [UInt8], _ expected: [String]) {
        #expect(receive(bytes, [0..<bytes.count]) == expected)
        for pieces in splits(of: bytes.count) { #expect(receive(bytes, pieces) == expected) }
    }

    @Test(arguments: [0, 1, 125, 126, 127, 1000, 65535, 65536, 70000], [0, 0x37FA_213D] as [UInt32])
    func unmasksAnyLength(_ length: Int, _ key: UInt32) {
        let payload = (0..<length).map { UInt8(truncatingIfNeeded: 32 + $0 % 90) }
        var output = ByteQueue()
        WebSocketFrameHeader.encodeFrame(.binary, payload.span.bytes, maskKey: key, into: &output)
        let bytes = output.toArray()
        let expected = ["binary fin \(length)"] + (length > 0 ? [String(decoding: payload, as: UTF8.self)] : []) + ["between"]
        let cuts = [[0..<bytes.count], stride(from: 0, to: bytes.count, by: 997).map { $0..<min($0 + 997, bytes.count) }]
        for pieces in cuts + (length < 200 ? splits(of: bytes.count) : []) {
            #expect(receive(bytes, pieces, role: .server) == expected)
            #expect(receive(bytes, pieces, role: .server, unmasks: false) == expected)
        }
    }

    @Test func manyFramesInOneBuffer() {
        var output = ByteQueue()
        for _ in 0..<1000 { WebSocketFrameHeader.encodeFrame(.binary, "abc".utf8Span.span.bytes, maskKey: 1, into: &output) }
        let bytes = output.toArray()
        #expect(receive(bytes, [0..<bytes.count], role: .server).filter { $0 == "abc" }.count == 1000)
    }
}
