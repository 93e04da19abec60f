import Bytes
import LinuxIO
import Wire

/// Where the body of a request goes while it comes.
///
/// Open, and so public, because roles subclass it.
open class RequestBody {
    /// Bytes that it may have.
    package final let limit: Int
    /// What has come and was not dealt with yet.
    package final var arrived = ByteQueue()

    /// Public, because with package access the compiler gives subclasses an inherited initializer that calls itself.
    public init(limit: Int) { self.limit = limit }

    /// Whether nothing more may come for now; whoever changes that resumes the connection.
    open var isFull: Bool { false }
    /// Seconds in which the next piece has to come; nil: the whole has to come in a time that the connection knows.
    open var pieceSeconds: Int? { nil }

    /// Whether what is left of it is read over once the request has its answer: a client that sends all of it before it reads the answer
    /// would otherwise see the connection break.
    open var mayBeDropped: Bool { false }
    /// Whether the request has its answer.
    package final var isAnswered = false

    /// More has come, or all of it.
    open func came(isWhole: Bool, on connection: HTTPConnection, _ reactor: Reactor) {}
    /// No more will come: the connection is gone, or the request was refused.
    open func abandon() {}
    /// The answer to a body that is none, or that comes too slowly.
    open func refusal(status: Int, _ reason: String) -> HTTPAnswer {
        HTTPAnswer(status: status, errorName: status == 408 ? "RequestTimeout" : "IotHubFormatError", message: reason)
    }
}

/// A body that is collected in memory, for a request that is worked on when it is whole.
open class CollectedBody: RequestBody {
    private let whole: ([UInt8]) -> HTTPAnswer?

    /// - Parameter whole: takes the body; nil when the answer comes later.
    public init(limit: Int, _ whole: @escaping ([UInt8]) -> HTTPAnswer?) {
        self.whole = whole
        super.init(limit: limit)
    }

    public final override func came(isWhole: Bool, on connection: HTTPConnection, _ reactor: Reactor) {
        guard isWhole else { return }
        let content = arrived.toArray(), serial = connection.serial
        arrived = ByteQueue()
        if let answer = whole(content) { connection.answer(answer, to: serial, on: reactor) }
    }
}

/// What comes of a body after its request was refused: read over, up to a limit.
final class DroppedBody: RequestBody {
    /// As much as the storage service's clients send in one request, unless told otherwise.
    private static let most = 64 << 20
    private var count = 0

    init() { super.init(limit: .max) }

    override var mayBeDropped: Bool { true }

    override func came(isWhole: Bool, on connection: HTTPConnection, _ reactor: Reactor) {
        count += arrived.count
        arrived.removeAll()
        if isWhole { connection.endAnswer(on: reactor) } else if count > Self.most { connection.end(.aborted, on: reactor) }
    }
}
