import Bytes
import Testing
import Wire

@Suite struct WebSocketFrameTests {
    /// RFC 6455 section 5.7, and the bounds of the three forms of length.
    static let headers: [([UInt8], WebSocketRole, WebSocketFrameHeader)] = [
        ([0x81, 0x05], .client, .init(opcode: .text, payloadLength: 5)),
        ([0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D], .server, .init(opcode: .text, maskKey: 0x37FA_213D, payloadLength: 5)),
        ([0x01, 0x03], .client, .init(fin: false, opcode: .text, payloadLength: 3)),
        ([0x80, 0x02], .client, .init(opcode: .continuation, payloadLength: 2)),
        ([0x89, 0x05], .client, .init(opcode: .ping, payloadLength: 5)),
        ([0x8A, 0x85, 0x37, 0xFA, 0x21, 0x3D], .server, .init(opcode: .pong, maskKey: 0x37FA_213D, payloadLength: 5)),
        ([0x82, 0x7D], .client, .init(opcode: .binary, payloadLength: 125)),
        ([0x82, 0x7E, 0x00, 0x7E], .client, .init(opcode: .binary, payloadLength: 126)),
        ([0x82, 0x7E, 0x01, 0x00], .client, .init(opcode: .binary, payloadLength: 256)),
        ([0x82, 0xFE, 0xFF, 0xFF, 0, 0, 0, 1], .server, .init(opcode: .binary, maskKey: 1, payloadLength: 65535)),
        ([0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0], .client, .init(opcode: .binary, payloadLength: 65536)),
        (
            [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0], .server,
            .init(opcode: .binary, maskKey: 0, payloadLength: .max)
        ),
    ]

    @Test(arguments: headers)
    func readsAndWritesTheHeader(_ bytes: [UInt8], _ role: WebSocketRole, _ header: WebSocketFrameHeader) throws {
        #expect(try WebSocketFrameHeader.parse((bytes + [1, 2]).span.bytes, role: role) == .complete(header, consumed: bytes.count))
        var output = ByteQueue()
        header.encode(into: &output)
        #expect(output.toArray() == bytes)
        #expect(header.encodedLength == bytes.count)
    }

    @Test(arguments: headers)
    func asksForMoreUntilTheHeaderIsWhole(_ bytes: [UInt8], _ role: WebSocketRole, _ header: WebSocketFrameHeader) throws {
        for end in 0..<bytes.count {
            guard case .needMoreData(let total) = try WebSocketFrameHeader.parse(bytes.span.bytes.extracting(0..<end), role: role) else {
                Issue.record("complete at \(end)")
                return
            }
            #expect(total > end && total <= bytes.count)
        }
    }

    @Test(
        arguments: [
            ([0xC1, 0x00], WebSocketRole.client, WebSocketError.reservedBits), ([0xA1], .client, .reservedBits),
            ([0x91], .client, .reservedBits),
            ([0x83], .client, .unknownOpcode), ([0x8B], .client, .unknownOpcode), ([0x08], .client, .controlFragmented),
            ([0x09, 0x00], .client, .controlFragmented), ([0x89, 0x7E], .client, .controlTooLong),
            ([0x88, 0xFF], .server, .controlTooLong),
            ([0x81, 0x05], .server, .maskMissing), ([0x81, 0x85], .client, .maskUnexpected),
            ([0x82, 0x7E, 0x00, 0x7D], .client, .nonMinimalLength),
            ([0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], .client, .nonMinimalLength),
            ([0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0], .client, .lengthOverflow),
        ] as [([UInt8], WebSocketRole, WebSocketError)])
    func refuses(_ bytes: [UInt8], _ role: WebSocketRole, _ error: WebSocketError) {
        #expect(throws: error) {
            try WebSocketFrameHeader.parse(bytes.span.bytes, role: role)
        }
    }

    @Test func aMaskedFrameIsThatOfTheRFC() {
        var output = ByteQueue()
        WebSocketFrameHeader.encodeFrame(.text, "Hello".utf8Span.span.bytes, maskKey: 0x37FA_213D, into: &output)
        #expect(output.toArray() == [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58])
    }

    @Test func theMaskIsTheSameAtEveryAlignmentLengthAndOffset() {
        let key: UInt32 = 0x37FA_213D
        let keyBytes: [UInt8] = [0x37, 0xFA, 0x21, 0x3D]
        for start in 0..<9 {
            for length in Array(0..<40) + [63, 64, 65, 127, 128, 129, 200] {
                for offset in 0..<5 {
                    var bytes = (0..<(start + length + 3)).map { UInt8(truncatingIfNeeded: $0 &* 7) }
                    var expected = bytes
                    for index in 0..<length { expected[start + index] ^= keyBytes[(index + offset) % 4] }
                    bytes.withUnsafeMutableBytes {
                        WebSocketMask.apply(UnsafeMutableRawBufferPointer(rebasing: $0[start..<start + length]), key: key, offset: offset)
                    }
                    #expect(bytes == expected, "start \(start) length \(length) offset \(offset)")
                }
            }
        }
    }

    @Test func aCloseIsCutAtAWholeCharacterAndNeverCarriesAForbiddenCode() {
        var output = ByteQueue()
        WebSocketFrameHeader.encodeClose(code: 1011, reason: "WS disconnected", into: &output)
        #expect(output.toArray() == [0x88, 17, 0x03, 0xF3] + "WS disconnected".bytes)
        output.removeAll()
        WebSocketFrameHeader.encodeClose(code: 1000, reason: String(repeating: "ä", count: 100), into: &output)
        #expect(output.toArray().count == 2 + 124)
        for code in [nil, 0, 999, 1004, 1005, 1006, 1015, 2999, 5000] as [UInt16?] {
            output.removeAll()
            WebSocketFrameHeader.encodeClose(code: code, reason: "x", into: &output)
            #expect(output.toArray() == [0x88, 0x00])
        }
    }

    @Test func closeCodesAreThoseOfTheWire() {
        let valid = (0...UInt16.max).filter(WebSocketClose.isValid)
        #expect(valid == Array(1000...1003) + Array(1007...1014) + Array(3000...4999))
    }
}
