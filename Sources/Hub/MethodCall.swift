import LinuxIO
import Registry
import Wire

/// One call of a direct method: waits until the device is there, asks it, and waits for its answer (service-rest 10).
///
/// Lives on the reactor of whoever called. Never stored and never repeated: when the hub or the connection goes, so does the call.
final class MethodCall: Source {
    enum Outcome: Sendable {
        /// The application's status, whatever it is, and the JSON text that it gave.
        case answered(status: Int64, payload: [UInt8])
        /// Not connected or not subscribed for the connect timeout.
        case notOnline
        /// Asked, and nothing came within the response timeout, or the connection was lost.
        case noAnswer
        /// What came is no JSON.
        case badAnswer
        /// The device has as many calls as it may have.
        case tooMany
    }

    /// What a call of so many bytes counts as: published limits go by units of 4 KiB (mqtt-device 19).
    static func weight(_ bytes: Int) -> Int { max(1, (bytes + 4095) / 4096) }

    private enum State { case waiting, asked(Directory.Presence), over }

    private let request: MethodRequest
    private let client: ClientIdentity
    private let core: HubCore
    private let ended: (Outcome, Reactor) -> Void
    private var state = State.waiting
    private var waitNumber: UInt64?

    /// - Parameter ended: called once, from the reactor's loop.
    init(_ request: MethodRequest, to client: ClientIdentity, core: HubCore, _ ended: @escaping (Outcome, Reactor) -> Void) {
        self.request = request
        self.client = client
        self.core = core
        self.ended = ended
        super.init()
    }

    override var isBackground: Bool { true }

    func begin(on reactor: Reactor) {
        reactor.add(self)
        reactor.setDeadline(of: self, inMilliseconds: request.connectSeconds * 1000)
        if let presence = core.directory[client], presence.interests.contains(.methods) { return ask(presence, on: reactor) }
        let token = self.token, mailbox = reactor.mailbox
        waitNumber = core.directory.when(.methods, of: client) {
            mailbox.send { reactor in (reactor.source(token) as? MethodCall)?.deviceReady(on: reactor) }
        }
    }

    private func deviceReady(on reactor: Reactor) {
        waitNumber = nil
        guard case .waiting = state, let presence = core.directory[client] else { return }
        ask(presence, on: reactor)
    }

    private func ask(_ presence: Directory.Presence, on reactor: Reactor) {
        state = .asked(presence)
        reactor.setDeadline(of: self, inMilliseconds: request.responseSeconds * 1000)
        let token = self.token, home = reactor.mailbox, request = self.request
        presence.mailbox.send { reactor in
            let device = reactor.source(presence.token) as? DeviceConnection
            if let problem = device.map({ $0.call(request, for: token, home: home, on: reactor) }) ?? .notOnline {
                home.send { reactor in (reactor.source(token) as? MethodCall)?.finish(problem, on: reactor) }
            }
        }
    }

    override func deadlinePassed(on reactor: Reactor) {
        if case .asked(let presence) = state {
            let token = self.token, home = reactor.mailbox
            presence.mailbox.send { reactor in (reactor.source(presence.token) as? DeviceConnection)?.forget(call: token, of: home) }
            finish(.noAnswer, on: reactor)
        } else {
            finish(.notOnline, on: reactor)
        }
    }

    /// Ends the call; once.
    func finish(_ outcome: Outcome, on reactor: Reactor) {
        if case .over = state { return }
        state = .over
        if let waitNumber { core.directory.cancelWaiting(client, waitNumber) }
        reactor.remove(self)
        ended(outcome, reactor)
    }

    override func abort(on reactor: Reactor) { finish(.noAnswer, on: reactor) }
}
