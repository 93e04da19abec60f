import Console
import LinuxIO
import Relay

/// One local connection and its stream, from accept to the end of both.
final class ForwardedConnection {
    let target: StreamTarget
    private weak var forwarding: Forwarding?
    private var bridge: LocalBridge?
    private var opening: StreamOpening?
    private let began: UInt64
    private let peer: String
    private let service: HubService
    private var mode = ""

    /// Takes an accepted socket and asks for a stream; until there is one nothing is read from it.
    init(
        _ socket: consuming OwnedDescriptor, from peer: SocketAddress?, to target: StreamTarget, at service: HubService,
        of forwarding: Forwarding, on reactor: Reactor
    ) {
        self.target = target
        self.forwarding = forwarding
        self.service = service
        self.peer = peer?.description ?? ""
        began = reactor.now
        opening = StreamOpening(target, at: service, on: reactor) { [self] result, reactor in
            opening = nil
            switch consume result {
            case .success(let stream):
                mode = stream.mode
                Log.info(
                    "stream-opened",
                    ["target": target.description, "peer": self.peer, "mode": mode, "milliseconds": "\(reactor.now &- began)"])
                if let bridge { stream.join(bridge, on: reactor) }
            case .failure(let failure):
                forwarding.complain("\(target): \(failure)", on: reactor)
                bridge?.refuse(on: reactor)
            }
            if bridge?.isOver == true { forget() }
        }
        bridge = LocalBridge(local: socket, on: reactor) { [self] _, report, reactor in ended(report, on: reactor) }
    }

    /// Breaks it off.
    func abort(on reactor: Reactor) {
        opening.take()?.cancel(on: reactor)
        bridge?.abort(on: reactor)
    }

    private func ended(_ report: LocalBridge.Report, on reactor: Reactor) {
        Log.info(
            "stream-closed",
            [
                "target": target.description, "peer": peer, "mode": mode, "reason": report.end.description,
                "sent": "\(report.bytesFromLocal)",
                "received": "\(report.bytesToLocal)",
            ])
        if let reason = service.complaint(about: report, of: target) { forwarding?.complain("\(target): \(reason)", on: reactor) }
        if let opening {
            // The device holds its side open for a leg that was promised: let it come, and be closed at once.
            guard !opening.isAccepted else { return }
            opening.cancel(on: reactor)
            self.opening = nil
        }
        forget()
    }

    private func forget() {
        bridge = nil
        forwarding?.forget(self)
    }
}
