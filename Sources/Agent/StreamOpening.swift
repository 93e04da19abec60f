import Connections
import Console
import Dialing
import Glibc
import LinuxIO
import Relay
import Wire

/// Who is told what becomes of a request.
protocol StreamOpeningOwner: AnyObject {
    /// The request is decided: answered, or not to be answered any more.
    func decided(_ opening: StreamOpening)
    /// Nothing is left of it.
    func ended(_ opening: StreamOpening, on reactor: Reactor)
}

/// One request of a service, from its arrival to the end of its stream.
///
///     dialing the local target ─► accepted ─► the leg comes ─► bytes flow
///              └► rejected                └► refused: the local connection is reset
///
/// The target is dialled before the request is accepted, so that a port where nobody listens is a rejection.
final class StreamOpening: Source {
    static let halfClose = "half-close"
    private static let dialMilliseconds = 10_000

    let request: StreamRequest
    let target: Target
    /// Nil once the request has been answered or its link is gone.
    private(set) var link: MQTTLink?
    private weak var owner: (any StreamOpeningOwner)?
    private let access: HubAccess
    private var dialer: Dialer?
    private var upgrade: WebSocketUpgrade?
    private var bridge: LocalBridge?
    private var isDone = false
    private let began: UInt64

    init(
        _ request: StreamRequest, to target: Target, over link: MQTTLink, through access: HubAccess, owner: any StreamOpeningOwner,
        on reactor: Reactor
    ) {
        self.request = request
        self.target = target
        self.link = link
        self.access = access
        self.owner = owner
        began = reactor.now
        super.init()
        reactor.add(self)
    }

    override var isBackground: Bool { true }  // the bridge's connections are waited for
    override func drain(on reactor: Reactor) { reject("the agent is shutting down", on: reactor) }
    override func abort(on reactor: Reactor) {
        breakOff(on: reactor)
        finish(on: reactor)
    }

    /// Ends the stream, and lets its other end know.
    func breakOff(on reactor: Reactor) {
        cancelDialling(on: reactor)
        upgrade.take()?.cancel(on: reactor)
        bridge?.abort(on: reactor)
    }

    /// Dials the target and goes on from there.
    func start(on reactor: Reactor) {
        reactor.setDeadline(of: self, inMilliseconds: Self.dialMilliseconds)
        let token = token
        access.resolve(target.host, port: target.port, on: reactor) { result, reactor in
            (reactor.source(token) as? StreamOpening)?.resolved(result, on: reactor)
        }
    }

    override func deadlinePassed(on reactor: Reactor) { reject("no answer from \(target)", on: reactor) }

    private func resolved(_ result: Result<[SocketAddress], Resolver.Failure>, on reactor: Reactor) {
        guard link != nil, bridge == nil else { return }
        switch result {
        case .failure(let failure): reject(failure.description, on: reactor)
        case .success(let addresses):
            var isAnswered = false
            let dialer = Dialer(to: addresses, withinMilliseconds: Self.dialMilliseconds, on: reactor) { [self] socket, error, reactor in
                isAnswered = true
                self.dialer = nil
                dialled(socket, error, on: reactor)
            }
            if !isAnswered { self.dialer = dialer }
        }
    }

    private func dialled(_ socket: consuming OwnedDescriptor?, _ error: SystemError, on reactor: Reactor) {
        guard link != nil else { return }
        guard let socket else { return reject(Self.text(error, target), on: reactor) }
        reactor.setDeadline(of: self, inMilliseconds: nil)
        bridge = LocalBridge(local: socket, on: reactor) { [self] _, report, reactor in closed(report, on: reactor) }
        accept(on: reactor)
    }

    private static func text(_ error: SystemError, _ target: Target) -> String {
        switch error.number {
        case ECONNREFUSED: "connection refused by \(target)"
        case ETIMEDOUT: "no answer from \(target)"
        default: "cannot reach \(target): \(error.reason)"
        }
    }

    // The answer

    private func accept(on reactor: Reactor) {
        let isHalfClosing =
            request.fields["$offer"].map { $0.utf8.split(separator: UInt8(ascii: ",")) }?.contains {
                let word = Substring($0).utf8.drop { $0 == 0x20 }
                return word.elementsEqual(Self.halfClose.utf8)
            } ?? false
        guard let url = StreamURL(parsing: request.url) else { return reject("the hub gave no valid address", on: reactor) }
        answer(StreamAnswer.accepted, isHalfClosing ? [TopicField("$chosen", Self.halfClose)] : [], on: reactor)
        upgrade = WebSocketUpgrade(to: url, through: access, bearer: request.auth, on: reactor) { [self] result, reactor in
            upgrade = nil
            switch consume result {
            case .success(let upgraded):
                Log.info("stream-opened", ["stream": request.rid, "name": request.streamName, "target": target.description])
                bridge?.join(upgraded.take(), isHalfClosing: isHalfClosing, on: reactor)
            case .failure(let error):
                Log.warning("stream-failed", ["stream": request.rid, "name": request.streamName, "reason": error.description])
                bridge?.refuse(on: reactor)
            }
        }
    }

    /// Tells the service why not; nothing happens when it has been told something already.
    func reject(_ reason: String, on reactor: Reactor) {
        guard link != nil else { return }
        Log.info("stream-rejected", ["stream": request.rid, "name": request.streamName, "reason": reason])
        Self.reject(request, reason, over: link, on: reactor)
        link = nil
        owner?.decided(self)
        cancelDialling(on: reactor)
        if let bridge { bridge.refuse(on: reactor) } else { finish(on: reactor) }
    }

    /// A rejection, with its reason cut to 200 characters on one line.
    static func reject(_ request: StreamRequest, _ reason: String, over link: MQTTLink?, on reactor: Reactor) {
        let text = String(Printable.oneLine(reason).prefix(200))
        publish(
            StreamAnswer(status: StreamAnswer.rejected, rid: request.rid, fields: [TopicField("$reason", text)]), over: link, on: reactor)
    }

    private func answer(_ status: Int, _ fields: [TopicField], on reactor: Reactor) {
        Self.publish(StreamAnswer(status: status, rid: request.rid, fields: fields), over: link, on: reactor)
        link = nil
        owner?.decided(self)
    }

    private static func publish(_ answer: StreamAnswer, over link: MQTTLink?, on reactor: Reactor) {
        guard let topic = try? answer.topic() else { return }
        link?.send(.publish(MQTTPublish(topic: topic)), on: reactor)
    }

    /// The link is gone: a request that was not answered is over, a stream that was accepted goes on.
    func linkLost(_ lost: MQTTLink, on reactor: Reactor) {
        guard link === lost else { return }
        link = nil
        owner?.decided(self)
        cancelDialling(on: reactor)
        if let bridge { bridge.refuse(on: reactor) } else { finish(on: reactor) }
    }

    private func cancelDialling(on reactor: Reactor) { dialer.take()?.cancel(on: reactor) }

    private func closed(_ report: LocalBridge.Report, on reactor: Reactor) {
        bridge = nil
        upgrade.take()?.cancel(on: reactor)
        Log.info(
            "stream-closed",
            [
                "stream": request.rid, "name": request.streamName, "reason": report.end.description,
                "bytes-to-service": "\(report.bytesFromLocal)", "bytes-to-device": "\(report.bytesToLocal)",
                "milliseconds": "\(reactor.now - min(began, reactor.now))",
            ])
        finish(on: reactor)
    }

    private func finish(on reactor: Reactor) {
        guard !isDone else { return }
        isDone = true
        reactor.remove(self)
        owner?.ended(self, on: reactor)
    }
}
