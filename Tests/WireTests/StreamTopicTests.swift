import Bytes
import Testing

@testable import Wire

@Suite struct StreamTopicTests {
    static let url = "wss://hub.example.net:443/bridges/ih/hub/d/dev1/sid/37114208d0e448989afe1ea20300cd0e/r/device"
    /// device-streams 4.3.
    static let topic = """
        $iothub/streams/POST/TestStream/?$rid=1&$url=wss%3A%2F%2Fhub.example.net%3A443%2Fbridges%2Fih%2Fhub%2Fd%2Fdev1%2Fsid%2F\
        37114208d0e448989afe1ea20300cd0e%2Fr%2Fdevice&$auth=k7Qm2vX9
        """

    @Test func writesTheExampleByteForByte() throws {
        let request = StreamRequest(streamName: "TestStream", rid: "1", url: Self.url, auth: "k7Qm2vX9")
        #expect(try request.topic() == Self.topic)
        var queue = ByteQueue()
        try MQTTPublish(topic: request.topic()).write(payload: RawSpan(), to: &queue)
        #expect(queue.toArray().count == 184)  // 179 bytes of topic, their length, and the header
        #expect(queue.toArray().starts(with: [0x30, 0xB5, 0x01, 0x00, 0xB3, 0x24, 0x69, 0x6F]))
        #expect(try StreamRequest(topic: Self.topic) == request)
    }

    static let requests = [
        StreamRequest(streamName: "22", rid: "a-1", url: "wss://h:443/~x!(y)*", auth: "a.b_c-d"),
        StreamRequest(streamName: "a b/é+#", rid: "1", url: "wss://[::1]:1/", auth: "t", fields: [TopicField("$offer", "blind ws/1")]),
        StreamRequest(
            streamName: "n", rid: "1", url: "wss://h:1/", auth: "t", fields: [TopicField("$offer", "ü&=%"), TopicField("x", "")]),
    ]

    @Test(arguments: requests) func readsEachRequestThatItWrites(request: StreamRequest) throws {
        let topic = try request.topic()
        #expect(topic.split(separator: "/", omittingEmptySubsequences: false).count == 5)
        #expect(!topic.contains("~"))
        #expect(topic.utf8.filter { $0 == UInt8(ascii: "=") }.count == 3 + request.fields.count)
        #expect(try StreamRequest(topic: topic) == request)
    }

    static let unwritable: [(StreamRequest, StreamTopicError)] = [
        (StreamRequest(streamName: "", rid: "1", url: "u", auth: "a"), .malformedName),
        (StreamRequest(streamName: "n", rid: "1&", url: "u", auth: "a"), .malformedField("$rid")),
        (StreamRequest(streamName: "n", rid: "", url: "u", auth: "a"), .malformedField("$rid")),
        (StreamRequest(streamName: "n", rid: "1", url: "wss://é", auth: "a"), .malformedField("$url")),
        (StreamRequest(streamName: "n", rid: "1", url: "u", auth: "a="), .malformedField("$auth")),
        (StreamRequest(streamName: "n", rid: "1", url: "u", auth: "a/b"), .malformedField("$auth")),
        (StreamRequest(streamName: "n", rid: "1", url: "u", auth: "a", fields: [TopicField("$rid", "2")]), .malformedField("$rid")),
        (StreamRequest(streamName: "n", rid: "1", url: "u", auth: "a", fields: [TopicField("a/b", "")]), .malformedField("a/b")),
    ]

    @Test(arguments: unwritable) func writesNoRequestThatSomeClientCannotRead(request: StreamRequest, error: StreamTopicError) {
        #expect(throws: error) { try request.topic() }
    }

    static let unreadable: [(String, StreamTopicError)] = [
        ("$iothub/streams/res/200/?$rid=1", .notAStreamTopic),
        ("$iothub/streams/POST//?$rid=1&$url=u&$auth=a", .malformedName),
        ("$iothub/streams/POST/%zz/?$rid=1&$url=u&$auth=a", .malformedName),
        ("$iothub/streams/POST/n", .malformedField("$rid")),
        ("$iothub/streams/POST/n/?$url=u&$auth=a", .malformedField("$rid")),
        ("$iothub/streams/POST/n/?$rid=1&$auth=a", .malformedField("$url")),
        ("$iothub/streams/POST/n/?$rid=1&$url=u&$auth=", .malformedField("$auth")),
        ("$iothub/streams/POST/n/?$rid=1&$rid=2&$url=u&$auth=a", .malformedField("$rid")),
    ]

    @Test(arguments: unreadable) func namesWhatARequestLacks(topic: String, error: StreamTopicError) {
        #expect(throws: error) { try StreamRequest(topic: topic) }
    }

    @Test func readsARequestInAnyOrderWithWhatItDoesNotKnow() throws {
        let request = try StreamRequest(topic: "$iothub/streams/POST/n/$auth=t&$ip=1.2.3.4&$url=wss%3a%2f%2fh%3a1%2f&$rid=7")
        #expect(
            request == StreamRequest(streamName: "n", rid: "7", url: "wss://h:1/", auth: "t", fields: [TopicField("$ip", "1.2.3.4")]))
    }

    @Test func writesAnswers() throws {
        #expect(try StreamAnswer(status: 200, rid: "1").topic() == "$iothub/streams/res/200/?$rid=1")
        let answer = StreamAnswer(status: 400, rid: "1", fields: [TopicField("$reason", "no such port"), TopicField("$chosen", "")])
        #expect(try answer.topic() == "$iothub/streams/res/400/?$rid=1&$reason=no%20such%20port&$chosen=")
    }

    @Test func keepsTheTokenOutOfWhatItPrints() {
        let request = StreamRequest(streamName: "n", rid: "1", url: "u", auth: "hush")
        var dumped = ""
        dump(request, to: &dumped)
        #expect(!"\(request) \(String(reflecting: request)) \(dumped)".contains("hush"))
    }
}
