import LinuxIO
import Streams

/// What the hub has asked one connection and waits to hear: requests for streams and calls of methods, by the `rid` that it gave them.
struct DeviceQuestions {
    /// A request for a stream, and the reactor on which the stream lives.
    struct StreamQuestion {
        let stream: StreamIdentifier
        let home: Mailbox
    }

    /// A call of a method, and where it lives.
    struct MethodQuestion {
        let call: Token
        let home: Mailbox
    }

    /// Calls that one connection may have at a time (service-rest 10 gives no number).
    static let mostCalls = 100

    private var lastRid: UInt64 = 0
    private var streams: [String: StreamQuestion] = [:]
    private var calls: [String: MethodQuestion] = [:]

    var hasRoomForCall: Bool { calls.count < Self.mostCalls }

    /// Notes a question; the `rid` under which it is asked.
    mutating func ask(_ question: StreamQuestion) -> String {
        lastRid += 1
        streams[String(lastRid)] = question
        return String(lastRid)
    }

    mutating func ask(_ question: MethodQuestion) -> String {
        lastRid += 1
        calls[String(lastRid)] = question
        return String(lastRid)
    }

    /// Who waits for this answer; nil when it comes too late or was never asked for.
    mutating func stream(answering rid: String) -> StreamQuestion? { streams.removeValue(forKey: rid) }
    mutating func call(answering rid: String) -> MethodQuestion? { calls.removeValue(forKey: rid) }

    /// Whoever asked has stopped waiting.
    mutating func forget(_ stream: StreamIdentifier) {
        if let rid = streams.first(where: { $0.value.stream == stream })?.key { streams[rid] = nil }
    }

    mutating func forget(call: Token, of home: Mailbox) {
        if let rid = calls.first(where: { $0.value.call == call && $0.value.home === home })?.key { calls[rid] = nil }
    }

    /// Tells everybody that no answer will come.
    mutating func abandon() {
        for question in exchange(&streams, with: [:]).values {
            let stream = question.stream
            question.home.send { reactor in Desk.of(reactor)?.stream(stream)?.handle(.deviceLost, on: reactor) }
        }
        for question in exchange(&calls, with: [:]).values {
            let call = question.call
            question.home.send { reactor in (reactor.source(call) as? MethodCall)?.finish(.noAnswer, on: reactor) }
        }
    }
}
