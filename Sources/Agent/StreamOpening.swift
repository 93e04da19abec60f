import Connections
import Console
import Dialing
import Glibc
import LinuxIO
import Relay
import TLS
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
/// The target is dialled before the request is accepted, so that a port where nobody listens is a rejection; a blind leg is opened
/// meanwhile, and dropped then. A device that lets only certain services in does it the other way round: whoever is none of them learns
/// nothing, and reaches nothing.
///
///     accepted ─► the leg comes ─► the service shows its key ─► dialing ─► bytes flow
final class StreamOpening: Source {
    private static let dialMilliseconds = 10_000
    /// The log can wait until the ends have met, who need the processors.
    private static let tellMilliseconds = 50

    let request: StreamRequest
    let target: Target
    /// Nil once the request has been answered or its link is gone.
    private(set) var link: MQTTLink?
    private weak var owner: (any StreamOpeningOwner)?
    private let access: HubAccess
    private let sealing: Sealing
    /// The best of what was offered; nil: a plain device stream.
    private let chosen: StreamWay?
    private var dialer: Dialer?
    private var upgrade: WebSocketUpgrade?
    private var blind: BlindUpgrade?
    private var handshake: SealedHandshake?
    private var carrier: WebSocketCarrier?
    private var sealed: Channel?  // of a service that was admitted, while its target is dialled
    private var bridge: LocalBridge?
    private var isGivenUp = false, isDone = false, isTold = true
    private var isDialled = false, isLegBegun = false
    private let began: UInt64

    init(
        _ request: StreamRequest, to target: Target, over link: MQTTLink, through access: HubAccess, sealing: Sealing,
        owner: any StreamOpeningOwner, on reactor: Reactor
    ) {
        self.request = request
        self.target = target
        self.link = link
        self.access = access
        self.sealing = sealing
        self.owner = owner
        let offered = StreamWay.list(request.fields["$offer"])
        chosen = StreamWay.allCases.first { offered.contains($0) }
        began = reactor.now
        super.init()
        reactor.add(self)
    }

    /// `blind`, `e2e`, or `websocket` for what the hub can read.
    private var mode: String { chosen.flatMap { $0.isEndToEnd ? $0.rawValue : nil } ?? "websocket" }

    override var isBackground: Bool { true }  // the bridge's connections are waited for
    override func drain(on reactor: Reactor) { reject("the agent is shutting down", on: reactor) }
    override func abort(on reactor: Reactor) {
        breakOff(on: reactor)
        finish(on: reactor)
    }

    /// Ends the stream, and lets its other end know.
    func breakOff(on reactor: Reactor) {
        giveUp(on: reactor)
        if let bridge { bridge.abort(on: reactor) } else { finish(on: reactor) }
    }

    /// Lets go of what is on its way.
    private func giveUp(on reactor: Reactor) {
        isGivenUp = true
        dialer.take()?.cancel(on: reactor)
        upgrade.take()?.cancel(on: reactor)
        blind.take()?.cancel(on: reactor)
        handshake.take()?.cancel(on: reactor)
        sealed.take()?.discard()
        if bridge?.hasLeg != true { carrier.take()?.abandon(on: reactor) }
    }

    /// Dials the target and goes on from there, or has the service show who it is first.
    func start(on reactor: Reactor) {
        guard sealing.isExclusive else {
            if chosen == .blind, let url = StreamURL(parsing: request.url) { openBlind(url, on: reactor) }
            return dial(on: reactor)
        }
        guard chosen?.isEndToEnd == true else {
            return reject("this device takes only streams that are encrypted end to end", on: reactor)
        }
        accept(on: reactor)
    }

    private func dial(on reactor: Reactor) {
        isDialled = true
        if target == .bench {
            do throws(SystemError) {
                return dialled(try MeasuringService.open(on: reactor), SystemError("socketpair", 0), on: reactor)
            } catch {
                return unreached("cannot measure: \(error.reason)", on: reactor)
            }
        }
        reactor.setDeadline(of: self, inMilliseconds: Self.dialMilliseconds)
        let token = token
        access.resolve(target.host, port: target.port, on: reactor) { result, reactor in
            (reactor.source(token) as? StreamOpening)?.resolved(result, on: reactor)
        }
    }

    override func deadlinePassed(on reactor: Reactor) {
        if bridge?.hasLeg == true { tellOpened() } else { unreached("no answer from \(target)", on: reactor) }
    }

    private func resolved(_ result: Result<[SocketAddress], Resolver.Failure>, on reactor: Reactor) {
        guard !isGivenUp, bridge == nil else { return }
        switch result {
        case .failure(let failure): unreached(failure.description, on: reactor)
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
        guard !isGivenUp else { return }
        guard let socket else { return unreached(Self.text(error, target), on: reactor) }
        reactor.setDeadline(of: self, inMilliseconds: nil)
        let bridge = LocalBridge(local: socket, on: reactor) { [self] _, report, reactor in closed(report, on: reactor) }
        self.bridge = bridge
        if link != nil { accept(on: reactor) }
        if let sealed = sealed.take() { join(bridge, sealed, on: reactor) }
    }

    /// The target cannot be reached: a rejection, if that can still be said.
    private func unreached(_ reason: String, on reactor: Reactor) {
        if link != nil { reject(reason, on: reactor) } else { failed(reason, on: reactor) }
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
        guard let url = StreamURL(parsing: request.url) else { return reject("the hub gave no valid address", on: reactor) }
        answer(StreamAnswer.accepted, chosen.map { [TopicField("$chosen", $0.rawValue)] } ?? [], on: reactor)
        guard chosen != .blind else { return openBlind(url, on: reactor) }
        upgrade = WebSocketUpgrade(to: url, through: access, bearer: request.auth, on: reactor) { [self] result, reactor in
            upgrade = nil
            switch consume result {
            case .success(let upgraded): opened(upgraded.take(), on: reactor)
            case .failure(let error): failed(error.description, on: reactor)
            }
        }
    }

    /// Opens the leg of a blind stream, once.
    private func openBlind(_ url: StreamURL, on reactor: Reactor) {
        guard !exchange(&isLegBegun, with: true) else { return }
        blind = BlindUpgrade(to: url, through: access, bearer: request.auth, on: reactor) { [self] result, reactor in
            blind = nil
            switch consume result {
            case .success(let socket): seal(socket.take(), on: reactor)
            case .failure(let error): failed(error.description, on: reactor)
            }
        }
    }

    private func opened(_ channel: consuming Channel, on reactor: Reactor) {
        guard chosen == .endToEnd else {
            isTold = false
            tellOpened()
            bridge?.join(channel, isHalfClosing: chosen == .halfClose, on: reactor)
            return
        }
        do throws(SystemError) {
            let carrier = try WebSocketCarrier(channel, on: reactor)
            self.carrier = carrier
            if let socket = carrier.takeSocket() { seal(socket, on: reactor) }
        } catch {
            failed(error.description, on: reactor)
        }
    }

    private func seal(_ socket: consuming OwnedDescriptor, on reactor: Reactor) {
        do throws(TLSError) {
            handshake = try sealing.begin(socket, for: request.streamName, on: reactor) { [self] result, reactor in
                handshake = nil
                switch consume result {
                case .success(let channel):
                    if let bridge { return join(bridge, channel, on: reactor) }
                    sealed = consume channel
                    if !isDialled { dial(on: reactor) }
                case .failure(let failure): failed(failure.reason, on: reactor)
                }
            }
        } catch {
            failed(error.description, on: reactor)
        }
    }

    private func join(_ bridge: LocalBridge, _ channel: consuming Channel, on reactor: Reactor) {
        isTold = false
        reactor.setDeadline(of: self, inMilliseconds: Self.tellMilliseconds)
        bridge.join(sealed: channel, inside: carrier.take(), on: reactor)
    }

    private func tellOpened() {
        guard !exchange(&isTold, with: true) else { return }
        Log.info(
            "stream-opened",
            ["stream": request.rid, "name": request.streamName, "target": target.description, "mode": mode])
    }

    /// A stream that does not come about, which the service is told if it still can be.
    private func failed(_ reason: String, on reactor: Reactor) {
        guard link == nil else { return reject(reason, on: reactor) }
        Log.warning("stream-failed", ["stream": request.rid, "name": request.streamName, "mode": mode, "reason": reason])
        giveUp(on: reactor)
        if let bridge { bridge.refuse(on: reactor) } else { finish(on: reactor) }
    }

    /// Tells the service why not; nothing happens when it has been told something already.
    func reject(_ reason: String, on reactor: Reactor) {
        guard link != nil else { return }
        Log.info("stream-rejected", ["stream": request.rid, "name": request.streamName, "reason": reason])
        Self.reject(request, reason, over: link, on: reactor)
        link = nil
        owner?.decided(self)
        giveUp(on: reactor)
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
        giveUp(on: reactor)
        if let bridge { bridge.refuse(on: reactor) } else { finish(on: reactor) }
    }

    private func closed(_ report: LocalBridge.Report, on reactor: Reactor) {
        bridge = nil
        giveUp(on: reactor)
        tellOpened()
        Log.info(
            "stream-closed",
            [
                "stream": request.rid, "name": request.streamName, "mode": mode, "reason": report.end.description,
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
