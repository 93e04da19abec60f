import Bytes
import Testing

@testable import Wire

/// The verdict on some bytes: what was parsed, the error, or nil for a wish for more.
private func verdict(_ bytes: [UInt8], limit: Int = MQTTPacket.defaultLimit) -> Result<MQTTPacket, MQTTError>? {
    do throws(MQTTError) {
        switch try MQTTPacket.parse(bytes.span.bytes, limit: limit) {
        case .needMoreData(let total):
            #expect(total > bytes.count)
            return nil
        case .complete(let packet, let consumed):
            #expect(consumed <= bytes.count)
            return .success(packet)
        }
    } catch {
        return .failure(error)
    }
}

private func written(_ packet: MQTTPacket, payload: [UInt8] = []) throws -> [UInt8] {
    var queue = ByteQueue()
    try packet.write(to: &queue, payload: payload.span.bytes)
    return queue.toArray()
}

private func field(_ text: String) -> [UInt8] {
    [UInt8(text.utf8.count >> 8), UInt8(text.utf8.count & 255)] + Array(text.utf8)
}

@Suite struct MQTTPacketTests {
    static let packets: [(MQTTPacket, [UInt8])] = [
        (
            .connect(
                MQTTConnect(
                    clientID: "dev1", userName: "h/dev1/", password: Array("pw".utf8), cleanSession: false, keepAliveSeconds: 60)),
            [0x10, 0x1D, 0, 4] + Array("MQTT".utf8) + [4, 0xC0, 0, 60] + field("dev1") + field("h/dev1/") + field("pw")
        ),
        (
            .connect(
                MQTTConnect(
                    clientID: "", cleanSession: true, keepAliveSeconds: 0,
                    will: MQTTWill(topic: "t", payload: [1, 0], qos: .atLeastOnce, retain: true))),
            [0x10, 0x13, 0, 4] + Array("MQTT".utf8) + [4, 0x2E, 0, 0, 0, 0, 0, 1, 0x74, 0, 2, 1, 0]
        ),
        (.connack(sessionPresent: true, code: .accepted), [0x20, 2, 1, 0]),
        (.connack(sessionPresent: false, code: .notAuthorized), [0x20, 2, 0, 5]),
        (.puback(packetID: 0x1234), [0x40, 2, 0x12, 0x34]),
        (
            .subscribe(
                packetID: 5,
                subscriptions: [
                    MQTTSubscription(filter: "$iothub/streams/POST/#", qos: .atMostOnce),
                    MQTTSubscription(filter: "$iothub/streams/res/#", qos: .atMostOnce),
                ]),  // device-streams 4.2
            [0x82, 0x33, 0, 5] + field("$iothub/streams/POST/#") + [0] + field("$iothub/streams/res/#") + [0]
        ),
        (.suback(packetID: 5, granted: [.atMostOnce, .atLeastOnce, nil]), [0x90, 5, 0, 5, 0, 1, 0x80]),
        (.unsubscribe(packetID: 6, filters: ["a", "b/#"]), [0xA2, 10, 0, 6] + field("a") + field("b/#")),
        (.unsuback(packetID: 6), [0xB0, 2, 0, 6]),
        (.pingreq, [0xC0, 0]),
        (.pingresp, [0xD0, 0]),
        (.disconnect, [0xE0, 0]),
        (
            .publish(MQTTPublish(topic: "a/b", payload: 7..<10)),
            [0x30, 8, 0, 3, 0x61, 0x2F, 0x62, 1, 2, 3]
        ),
        (
            .publish(MQTTPublish(topic: "a", qos: .atLeastOnce, packetID: 7, retain: true, isDuplicate: true, payload: 7..<8)),
            [0x3B, 6, 0, 1, 0x61, 0, 7, 9]
        ),
        (
            .publish(MQTTPublish(topic: "$iothub/streams/res/200/?$rid=1", payload: 35..<35)),  // device-streams 4.4
            [0x30, 0x21, 0, 0x1F] + Array("$iothub/streams/res/200/?$rid=1".utf8)
        ),
    ]

    @Test(arguments: packets) func readsAndWritesEveryPacketByteForByte(packet: MQTTPacket, bytes: [UInt8]) throws {
        #expect(verdict(bytes) == .success(packet))
        var payload: [UInt8] = []
        if case .publish(let publish) = packet { payload = Array(bytes[publish.payload]) }
        #expect(try written(packet, payload: payload) == bytes)
    }

    @Test(arguments: packets) func asksForMoreOnEveryPrefixAndLeavesWhatFollows(packet: MQTTPacket, bytes: [UInt8]) throws {
        for end in 0..<bytes.count { #expect(verdict(Array(bytes[..<end])) == nil) }
        let more = bytes + [0xFF, 0xFF]
        let parsed = try MQTTPacket.parse(more.span.bytes)
        #expect(parsed == .complete(packet, consumed: bytes.count))
    }

    static let malformed: [(String, [UInt8], MQTTError)] = [
        ("type 0", [0x00, 0], .unsupportedType(0)),
        ("type 15", [0xF0, 0], .unsupportedType(15)),
        ("PUBREC", [0x50, 2, 0, 1], .unsupportedType(5)),
        ("flags on PINGREQ", [0xC1, 0], .reservedFlags),
        ("SUBSCRIBE without its flag", [0x80, 6, 0, 1, 0, 1, 0x61, 0], .reservedFlags),
        ("UNSUBSCRIBE without its flag", [0xA0, 5, 0, 1, 0, 1, 0x61], .reservedFlags),
        ("five bytes of length", [0xC0, 0x80, 0x80, 0x80, 0x80, 0], .malformedRemainingLength),
        ("PINGREQ with a body", [0xC0, 1, 0], .trailingBytes),
        ("PUBACK of id 0", [0x40, 2, 0, 0], .zeroPacketID),
        ("PUBACK too long", [0x40, 3, 0, 1, 0], .trailingBytes),
        ("PUBACK too short", [0x40, 1, 0], .fieldPastEnd),
        ("PUBLISH with QoS 3", [0x36, 5, 0, 1, 0x61, 0, 1], .malformedQoS),
        ("PUBLISH with DUP and QoS 0", [0x38, 3, 0, 1, 0x61], .malformedQoS),
        ("PUBLISH with id 0", [0x32, 5, 0, 1, 0x61, 0, 0], .zeroPacketID),
        ("PUBLISH without a topic", [0x30, 2, 0, 0], .emptyTopic),
        ("PUBLISH whose topic runs out", [0x30, 3, 0, 2, 0x61], .fieldPastEnd),
        ("PUBLISH with NUL in its topic", [0x30, 3, 0, 1, 0], .malformedString),
        ("PUBLISH with an overlong form", [0x30, 4, 0, 2, 0xC0, 0x80], .malformedString),
        ("PUBLISH with a surrogate", [0x30, 5, 0, 3, 0xED, 0xA0, 0x80], .malformedString),
        ("SUBSCRIBE of nothing", [0x82, 2, 0, 1], .emptyList),
        ("SUBSCRIBE with QoS 3", [0x82, 6, 0, 1, 0, 1, 0x61, 3], .malformedQoS),
        ("SUBSCRIBE with reserved bits", [0x82, 6, 0, 1, 0, 1, 0x61, 4], .malformedQoS),
        ("SUBSCRIBE without QoS", [0x82, 5, 0, 1, 0, 1, 0x61], .fieldPastEnd),
        ("SUBSCRIBE of an empty filter", [0x82, 5, 0, 1, 0, 0, 0], .emptyTopic),
        ("UNSUBSCRIBE of nothing", [0xA2, 2, 0, 1], .emptyList),
        ("SUBACK of nothing", [0x90, 2, 0, 1], .emptyList),
        ("SUBACK with code 3", [0x90, 3, 0, 1, 3], .unknownCode(3)),
        ("CONNACK with code 6", [0x20, 2, 0, 6], .unknownCode(6)),
        ("CONNACK with reserved flags", [0x20, 2, 2, 0], .reservedFlags),
        ("CONNACK refusing a present session", [0x20, 2, 1, 5], .reservedFlags),
        ("CONNECT of another protocol", [0x10, 4, 0, 1, 0x58, 4], .unknownProtocol),
        ("CONNECT with the reserved flag", connect(flags: 0x01), .malformedConnectFlags),
        ("CONNECT with password alone", connect(flags: 0x40), .malformedConnectFlags),
        ("CONNECT with will QoS but no will", connect(flags: 0x08), .malformedConnectFlags),
        ("CONNECT with will retain but no will", connect(flags: 0x20), .malformedConnectFlags),
        ("CONNECT with will QoS 3", connect(flags: 0x1C), .malformedConnectFlags),
        ("CONNECT with a user name that is not there", connect(flags: 0x80), .fieldPastEnd),
        ("CONNECT with something behind", connect(flags: 0, rest: [0]), .trailingBytes),
    ]

    static func connect(flags: UInt8, rest: [UInt8] = []) -> [UInt8] {
        let body = field("MQTT") + [4, flags, 0, 60] + field("d") + rest
        return [0x10, UInt8(body.count)] + body
    }

    @Test(arguments: malformed) func refusesWhatTheStandardForbids(name: String, bytes: [UInt8], error: MQTTError) {
        #expect(verdict(bytes) == .failure(error), "\(name)")
        // a shorter view may ask for more, or find the same error early; never another
        for end in 0..<bytes.count {
            let early = verdict(Array(bytes[..<end]))
            #expect(early == nil || early == .failure(error), "\(name), \(end) bytes")
        }
    }

    @Test(arguments: [("MQIsdp", 3), ("MQTT", 5), ("MQTT", 3), ("MQIsdp", 4)] as [(String, UInt8)])
    func tellsOfOtherVersionsSoThatTheyCanBeAnswered(name: String, level: UInt8) {
        let body = field(name) + [level, 0xFF, 0xFF, 0xFF]
        #expect(verdict([0x10, UInt8(body.count)] + body) == .success(.connectOfOtherVersion(protocolName: name, level: level)))
    }

    @Test func refusesALongPacketAtItsLength() {
        #expect(verdict([0x30, 0x81, 0x01], limit: 128) == .failure(.packetTooLarge(129)))
        #expect(verdict([0x30, 0xFF, 0xFF], limit: 128) == .failure(.packetTooLarge(16383)))
        #expect(verdict([0x30, 0x80, 0x01], limit: 128) == nil)
    }

    @Test(arguments: [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, MQTTFixedHeader.longest])
    func writesEachLengthAsItReadsIt(length: Int) throws {
        var queue = ByteQueue()
        let header = MQTTFixedHeader(type: .publish, flags: 0, remainingLength: length)
        try header.write(to: &queue)
        let bytes = queue.toArray()
        let parsed = try MQTTFixedHeader.parse(bytes.span.bytes, limit: MQTTFixedHeader.longest)
        #expect(parsed == .complete(header, consumed: bytes.count))
    }

    @Test func writesNothingWhenItCannotWriteAll() {
        let long = String(repeating: "x", count: 65_536)
        let refused: [MQTTPacket] = [
            .puback(packetID: 0), .subscribe(packetID: 1, subscriptions: []), .unsubscribe(packetID: 1, filters: [""]),
            .publish(MQTTPublish(topic: long)), .publish(MQTTPublish(topic: "a\0")), .publish(MQTTPublish(topic: "")),
            .publish(MQTTPublish(topic: "a", qos: .atLeastOnce)), .publish(MQTTPublish(topic: "a", packetID: 1)),
            .connect(MQTTConnect(clientID: long)), .connect(MQTTConnect(clientID: "d", password: [1])),
            .suback(packetID: 1, granted: []),
        ]
        for packet in refused {
            var queue = ByteQueue()
            #expect(throws: MQTTError.self) { try packet.write(to: &queue) }
            #expect(queue.toArray().isEmpty)
        }
    }

    @Test func keepsThePasswordOutOfWhatItPrints() {
        let connect = MQTTConnect(clientID: "d", userName: "u", password: Array("hush".utf8))
        var dumped = ""
        dump(connect, to: &dumped)
        #expect(!"\(connect) \(dumped)".contains("104"))
        #expect(!"\(connect) \(dumped) \(String(reflecting: connect))".contains("hush"))
    }
}
