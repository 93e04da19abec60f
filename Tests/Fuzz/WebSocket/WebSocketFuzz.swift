import Bytes
import FuzzSupport
import Wire

/// What a receiver made of the bytes: the frames with where in the payload they stood, the payload put together, and how it ended.
private struct Outcome: Equatable {
    struct Frame: Equatable {
        var place: Int
        var event: WebSocketEvent
    }

    var frames: [Frame] = []
    var payload: [UInt8] = []
    var error: WebSocketError?
    var isClosed = false
    var betweenMessages = false
}

private func run(_ bytes: [UInt8], in pieces: [Range<Int>], role: WebSocketRole, unmasks: Bool = true) -> Outcome {
    var receiver = WebSocketReceiver(role: role, unmasks: unmasks)
    var outcome = Outcome()
    for piece in pieces {
        var bytes = Array(bytes[piece])
        let failed = bytes.withUnsafeMutableBytes { buffer in
            var position = 0
            do throws(WebSocketError) {
                while let event = try receiver.next(in: buffer, at: &position) {
                    check(position <= buffer.count, "nothing is consumed that was not there")
                    switch event {
                    case .payload(let range):
                        check(!range.isEmpty && range.upperBound <= buffer.count, "a payload lies in the buffer")
                        if unmasks {
                            outcome.payload += buffer[range]
                        } else {
                            var queue = ByteQueue()
                            let masked = UnsafeRawBufferPointer(rebasing: buffer[range]).bytes
                            WebSocketMask.append(masked, key: receiver.payloadKey, to: &queue)
                            outcome.payload += queue.toArray()
                        }
                    default: outcome.frames.append(.init(place: outcome.payload.count, event: event))
                    }
                }
                check(position == buffer.count, "every byte is consumed")
                return false
            } catch {
                outcome.error = error
                return true
            }
        }
        if failed { return outcome }
    }
    outcome.betweenMessages = receiver.isBetweenMessages
    outcome.isClosed = receiver.isClosed
    return outcome
}

@main
enum WebSocketFuzz {
    static func main() {
        runFuzzer(fuzzWebSocket)
    }
}

private func fuzzWebSocket(_ input: inout FuzzInput) {
    for role in [WebSocketRole.server, .client] {
        let header = checkSplits(of: &input) { bytes -> (verdict: Verdict<WebSocketFrameHeader>, wanted: Int) in
            do throws(WebSocketError) {
                switch try WebSocketFrameHeader.parse(bytes, role: role) {
                case .needMoreData(let total): return (.more, total)
                case .complete(let value, let consumed): return (.value(value, consumed: consumed), 0)
                }
            } catch {
                return (.refused("\(error)"), 0)
            }
        }
        if case .value(let header, let consumed) = header {
            var output = ByteQueue()
            header.encode(into: &output)
            check(output.toArray() == Array(input.bytes[0..<consumed]), "a header is written as it was read")
            check(header.encodedLength == consumed, "its length is known")
        }
        let pieces = input.pieces()
        let whole = [0..<input.bytes.count]
        check(
            run(input.bytes, in: whole, role: role) == run(input.bytes, in: pieces, role: role),
            "frames are the same in pieces")
        check(
            run(input.bytes, in: whole, role: role)
                == run(input.bytes, in: pieces, role: role, unmasks: false),
            "a payload is the same whoever unmasks it")
    }

    // The input as a payload: what is sent arrives.
    let key = UInt32(truncatingIfNeeded: input.number(below: 1 << 31)) &* 2_654_435_761
    var output = ByteQueue()
    WebSocketFrameHeader.encodeFrame(.binary, input.bytes.span.bytes, maskKey: key, into: &output)
    var frame = FuzzInput(output.toArray())
    let received = run(frame.bytes, in: frame.pieces(), role: .server)
    check(received.payload == input.bytes && received.betweenMessages, "a payload arrives as it was sent")
}
